-- args: task token progress
-- Extend the lease and note the progress. Answers OK, CANCELLED or LOST.
local t = redis.call('HMGET', KEY.TASK(task), 'token', 'state', 'engine', 'high', 'instance', 'entry')
if t[1] ~= token then return 'LOST' end
if t[2] ~= 'running' then return t[2] == 'cancelled' and 'CANCELLED' or 'LOST' end
redis.call('XCLAIM', lane_of(t[3], t[4]), GROUP, t[5], 0, t[6], 'JUSTID')
if progress ~= '' then redis.call('HSET', KEY.TASK(task), 'progress', progress) end
return 'OK'
