-- args: task token outcome seconds error delay attempts
-- End a lease: completed, failed, retry (after `delay` ms, at most `attempts` times) or released
-- (given back uncounted). Answers OK or LOST; the same settle again answers OK and changes nothing.
local key = KEY.TASK(task)
local t = redis.call('HMGET', key, 'token', 'state', 'attempt', 'job')
if t[1] ~= token then return 'LOST' end
if t[2] ~= 'running' then return 'OK' end
unqueue(task)
redis.call('HSET', key, 'seconds', seconds)
if outcome == 'released' then
  redis.call('HINCRBY', key, 'attempt', -1)
  enqueue(task)
elseif outcome == 'retry' and tonumber(t[3]) < tonumber(attempts) then
  redis.call('HSET', key, 'state', 'retrying', 'error', error)
  redis.call('ZADD', KEY.DELAYED(), int(now() + delay), task)
  event(t[4], task, 'retrying')
else
  close(task, outcome == 'retry' and 'failed' or outcome, error)
end
return 'OK'
