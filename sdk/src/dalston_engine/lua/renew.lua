-- args: task token progress
-- Extend the lease and note the progress. Answers OK, CANCELLED or LOST.
local t = read(task)
if t.token ~= token then return 'LOST' end
if t.state ~= 'running' then return t.state == 'cancelled' and 'CANCELLED' or 'LOST' end
redis.call('XCLAIM', lane(t), GROUP, t.instance, 0, t.entry, 'JUSTID')
if progress ~= '' then redis.call('HSET', KEY.TASK(task), 'progress', progress) end
return 'OK'
