-- args: task token n segments
-- Let those who follow the job have the attempt's segments from the `n`th on. Answers OK or LOST.
local t = read(task)
if t.token ~= token or t.state ~= 'running' then return 'LOST' end
local key, entry = KEY.SEGMENTS(t.job), {'task', task, 'token', token, 'n', n, 'segments', segments}
local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
if last and table.concat(last[2]) == table.concat(entry) then return 'OK' end
redis.call('XADD', key, '*', unpack(entry))
redis.call('EXPIRE', key, 3600)
event(t.job, task, 'told')
return 'OK'
