-- args: session attach facts
-- Replace what another gateway needs to know of a session, if it was last attached by this claim `attach`.
-- Answers OK, STALE or NONE.
local key = KEY.SESSION(session)
local was = redis.call('HMGET', key, 'attach', 'state')
if not was[1] then return 'NONE' end
if was[1] ~= attach or was[2] == 'ended' then return 'STALE' end
redis.call('HSET', key, 'facts', facts)
return 'OK'
