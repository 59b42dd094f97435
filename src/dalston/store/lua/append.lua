-- args: session epoch seq audio final ttl
-- Log a final of a session's attachment `epoch`; nothing before `audio` will be said anything about again.
-- Answers OK, STALE where a later attachment has begun or the session has ended, or NONE where Redis has lost this one.
local key, log = KEY.SESSION(session), KEY.SESSION_LOG(session)
local was = redis.call('HMGET', key, 'epoch', 'state', 'audio')
if tonumber(was[1] or 0) < tonumber(epoch) then return 'NONE' end
if was[1] ~= epoch or was[2] ~= 'active' then return 'STALE' end
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if last and tonumber(string.match(last[1], '^%d+')) >= tonumber(seq) then return 'OK' end
redis.call('XADD', log, seq .. '-0', 'final', final)
redis.call('EXPIRE', log, ttl)
if tonumber(audio) > tonumber(was[3] or 0) then redis.call('HSET', key, 'audio', audio) end
redis.call('HSET', key, 'seq', seq)
redis.call('HINCRBY', KEY.REALTIME(), 'finals', 1)
return 'OK'
