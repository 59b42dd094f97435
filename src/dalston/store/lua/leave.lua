-- args: session epoch state cause keep
-- Give a session's seat back: `detached` while its client may come back, `ended` for good, after its transcript
-- is on disk; `cause` of its end, known as well when only the disk keeps it from ending. Its keys live on for
-- `keep` s. Answers OK, NONE or STALE (a later attachment has begun).
local key, log = KEY.SESSION(session), KEY.SESSION_LOG(session)
local was = redis.call('HMGET', key, 'epoch', 'state', 'worker', 'audio', 'key')
if not was[1] then return 'NONE' end
if was[1] ~= epoch then return 'STALE' end
if was[2] == 'ended' or was[2] == state then return 'OK' end
redis.call('ZREM', KEY.SEATS(was[3]), session)
redis.call('HSET', key, 'state', state, 'cause', cause)
if state == 'ended' then
  meter(session, was[4])
  if was[5] then redis.call('ZREM', KEY.LIMITED(was[5]), session) end
  redis.call('HSET', key, 'ended_at', stamp)
  redis.call('ZREM', KEY.SESSIONS(), session)
  redis.call('HINCRBY', KEY.REALTIME(), cause, 1)
else redis.call('ZADD', KEY.SESSIONS(), stamp, session) end
redis.call('EXPIRE', key, keep)
redis.call('EXPIRE', log, keep)
return 'OK'
