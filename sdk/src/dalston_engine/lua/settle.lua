-- args: task token outcome seconds error delay attempts
-- End a lease: completed, failed, retry (after `delay` ms, at most `attempts` times), released or
-- postponed (given back uncounted, at once or after `delay`). Answers OK, CANCELLED or LOST; the
-- same settle again answers the same and changes nothing.
local key = KEY.TASK(task)
local t = redis.call('HMGET', key, 'token', 'state', 'attempt', 'job')
if t[1] ~= token then return 'LOST' end
if t[2] ~= 'running' then return t[2] == 'cancelled' and 'CANCELLED' or 'OK' end
unqueue(task)
local again = outcome == 'postponed' or outcome == 'retry' and tonumber(t[3]) < tonumber(attempts)
if outcome == 'released' or outcome == 'postponed' then redis.call('HINCRBY', key, 'attempt', -1) end
if outcome == 'released' then
  enqueue(task)
elseif again then
  redis.call('HSET', key, 'state', 'retrying', 'error', error)
  redis.call('ZADD', KEY.DELAYED(), int(now() + delay), task)
  event(t[4], task, 'retrying')
else
  close(task, outcome == 'retry' and 'failed' or outcome, error, outcome == 'retry', seconds)
end
return 'OK'
