-- args: task token n segments
-- Let those who follow the job have the attempt's segments from the `n`th on. Answers OK or LOST.
local t = read(task)
if t.token ~= token or t.state ~= 'running' then return 'LOST' end
redis.call('XADD', KEY.SEGMENTS(t.job), '*', 'task', task, 'token', token, 'n', n, 'segments', segments)
redis.call('EXPIRE', KEY.SEGMENTS(t.job), 3600)
event(t.job, task, 'told')
return 'OK'
