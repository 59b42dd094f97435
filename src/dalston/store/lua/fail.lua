-- args: task engine error
-- Fail a task that waits in vain for an engine. Answers OK or STALE (it no longer waits for that one).
local t = redis.call('HMGET', KEY.TASK(task), 'state', 'engine')
if t[1] ~= 'queued' or t[2] ~= engine then return 'STALE' end
unqueue(task)
close(task, 'failed', error, true)
return 'OK'
