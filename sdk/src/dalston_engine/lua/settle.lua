-- args: task token outcome seconds audio error delay attempts whole
-- End a lease: completed, failed, retry (after `delay` ms, at most `attempts` times), released or
-- postponed (given back uncounted, at once or after `delay`). Whoever wrongly believes that its task is
-- cancelled releases it. `whole`: a task that may grow the plan has found nothing to grow it by. Answers OK,
-- CANCELLED or LOST; the same settle again changes nothing more.
local t = read(task)
if t.token ~= token then return 'LOST' end
if t.state ~= 'running' then return t.state == 'cancelled' and 'CANCELLED' or 'OK' end
unqueue(t)
settled = true
if whole ~= '' and t.grows then
  redis.call('HDEL', KEY.TASK(task), 'grows')
  t.grows = nil
end
local again = outcome == 'postponed' or outcome == 'retry' and t.attempt < tonumber(attempts)
local back = outcome == 'released' or outcome == 'cancelled'
if back or outcome == 'postponed' then redis.call('HINCRBY', KEY.TASK(task), 'attempt', -1) end
if back then enqueue(t)
elseif again then
  redis.call('HSET', KEY.TASK(task), 'state', 'retrying', 'error', error)
  redis.call('ZADD', KEY.DELAYED(), int(now + delay), task)
  event(t.job, task, 'retrying')
else close(t, outcome == 'retry' and 'failed' or outcome, error, outcome == 'retry', seconds, audio) end
return 'OK'
