-- args: job run state error keep retention notify
-- The terminal transition of a job's run, after its outcome is on disk. Its keys live on for `keep` s, its
-- files for `retention` s if there is an end to it; `notify`: somebody is to be told. Answers OK, EXISTS
-- (already terminal) or STALE (a later run has begun).
local key, ended = KEY.JOB(job), now
local found = redis.call('HMGET', key, 'state', 'run', 'open', 'tasks', 'key')
if not found[1] then redis.call('ZREM', KEY.ACTIVE(), job) end
if not ACTIVE[found[1]] then return 'EXISTS' end
if tonumber(found[2]) > tonumber(run) then return 'STALE' end
redis.call('ZREM', KEY.ACTIVE(), job) -- first, for it is allowed when memory is full, and then the rest is
redis.call('HSET', key, 'state', state, 'run', run, 'error', error, 'finished_at', int(ended), 'open', 0)
if retention ~= '' then redis.call('ZADD', KEY.EXPIRY(), int(ended + retention * 1000), job) end
for _, task in ipairs(words(found[4])) do
  -- Open tasks are left only where Redis went back in time behind the files.
  if found[3] ~= '0' and OPEN[redis.call('HGET', KEY.TASK(task), 'state')] then withdraw(task, 'skipped') end
  redis.call('EXPIRE', KEY.TASK(task), keep)
end
redis.call('EXPIRE', key, keep)
redis.call('EXPIRE', KEY.SEGMENTS(job), 30) -- who follows has until then to read the last ones
if notify ~= '' then redis.call('ZADD', KEY.DELIVERIES(), 'NX', stamp, job) end
if state ~= 'failed' then charge(job, found[5], found[4]) end
event(job, '', state)
return 'OK'
