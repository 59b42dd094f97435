-- args: job state error keep retention
-- The terminal transition of a job, after its outcome is on disk. Its keys live on for `keep` s, its
-- files for `retention` s if there is an end to it. Answers OK or EXISTS (already terminal).
local key, ended = KEY.JOB(job), now()
if not ACTIVE[redis.call('HGET', key, 'state')] then return 'EXISTS' end
redis.call('HSET', key, 'state', state, 'error', error, 'finished_at', int(ended), 'open', 0)
redis.call('ZREM', KEY.ACTIVE(), job)
if retention ~= '' then redis.call('ZADD', KEY.EXPIRY(), int(ended + retention * 1000), job) end
for _, task in ipairs(words(redis.call('HGET', key, 'tasks'))) do
  -- Open tasks are left only where Redis went back in time behind the files.
  if OPEN[redis.call('HGET', KEY.TASK(task), 'state')] then withdraw(task, 'skipped') end
  redis.call('EXPIRE', KEY.TASK(task), keep)
end
redis.call('EXPIRE', key, keep)
event(job, '', state)
return 'OK'
