-- args: job tasks
-- Remove every key of a job whose files are gone; `tasks` as far as they are known from them.
-- Answers OK.
local ids = redis.call('HGET', KEY.JOB(job), 'tasks') or tasks
for _, task in ipairs(words(ids)) do
  if OPEN[redis.call('HGET', KEY.TASK(task), 'state')] then withdraw(task, 'skipped') end
  unlist(task)
  redis.call('DEL', KEY.TASK(task))
end
redis.call('DEL', KEY.JOB(job), KEY.SEGMENTS(job))
redis.call('ZREM', KEY.JOBS(), job)
redis.call('ZREM', KEY.ACTIVE(), job)
redis.call('ZREM', KEY.EXPIRY(), job)
return 'OK'
