-- args: task token progress
-- Extend the lease and note the progress. Answers OK, CANCELLED or LOST.
local t = redis.call('HMGET', KEY.TASK(task), 'token', 'state', 'engine', 'high', 'instance', 'entry', 'job')
if t[1] ~= token or t[2] ~= 'running' then return 'LOST' end
redis.call('XCLAIM', lane_of(t[3], t[4]), GROUP, t[5], 0, t[6], 'JUSTID')
if progress ~= '' then redis.call('HSET', KEY.TASK(task), 'progress', progress) end
if redis.call('HGET', KEY.JOB(t[7]), 'state') == 'cancelled' then return 'CANCELLED' end
return 'OK'
