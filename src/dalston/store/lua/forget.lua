-- args: job tasks
-- Remove every key of a job whose files are gone; `tasks` as far as they are known from them.
-- Answers OK.
local found = redis.call('HMGET', KEY.JOB(job), 'tasks', 'state', 'key')
local ids = found[1] or tasks
redis.call('ZREM', KEY.ACTIVE(), job) -- first, for it is allowed when memory is full, and then the rest is
if ACTIVE[found[2]] then charge(job, found[3], ids) end
for _, task in ipairs(words(ids)) do
  if OPEN[redis.call('HGET', KEY.TASK(task), 'state')] then withdraw(task, 'skipped') end
  unlist(task)
  redis.call('DEL', KEY.TASK(task))
end
redis.call('DEL', KEY.JOB(job), KEY.SEGMENTS(job))
redis.call('ZREM', KEY.JOBS(), job)
redis.call('ZREM', KEY.EXPIRY(), job)
return 'OK'
