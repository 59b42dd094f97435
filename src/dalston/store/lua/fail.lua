-- args: task engine error absent lease
-- Fail a task that waits in vain for an engine, which has not been heard from for `absent` s. Being away
-- counts where leases of `lease` ms do: while somebody sweeps. Answers OK or STALE (it no longer waits for
-- that one, or not in vain).
local t = read(task)
if t.state ~= 'queued' or t.engine ~= engine then return 'STALE' end
local seen, swept = redis.call('HGET', KEY.ENGINE(engine), 'seen_at'), redis.call('HMGET', KEY.SWEEP(), 'at', 'from')
if not swept[2] or now - swept[1] > lease / 3 then return 'STALE' end
if now - math.max(seen or 0, swept[2]) < absent * 1000 then return 'STALE' end
unqueue(t)
close(t, 'failed', error, true)
return 'OK'
