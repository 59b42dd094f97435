-- args: job state error keep
-- The terminal transition of a job, after its outcome is on disk. Its keys live on for `keep` s.
-- Answers OK or EXISTS (already terminal).
local key = KEY.JOB(job)
local ACTIVE = {queued = true, running = true}
if not ACTIVE[redis.call('HGET', key, 'state')] then return 'EXISTS' end
redis.call('HSET', key, 'state', state, 'error', error, 'finished_at', int(now()))
redis.call('ZREM', KEY.ACTIVE(), job)
redis.call('EXPIRE', key, keep)
for _, task in ipairs(words(redis.call('HGET', key, 'tasks'))) do
  redis.call('EXPIRE', KEY.TASK(task), keep)
end
event(job, '', state)
return 'OK'
