-- args: task engine error absent
-- Fail a task that waits in vain for an engine, which has not been heard from for `absent` s. Answers OK
-- or STALE (it no longer waits for that one, or not in vain).
local t = read(task)
if t.state ~= 'queued' or t.engine ~= engine then return 'STALE' end
if now - (redis.call('HGET', KEY.ENGINE(engine), 'seen_at') or 0) < absent * 1000 then return 'STALE' end
unqueue(t)
close(t, 'failed', error, true)
return 'OK'
