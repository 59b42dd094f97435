-- args: gateway sessions lease ttl
-- Keep the seats of a gateway's sessions, each told as `id,epoch,audio`: seconds of audio that are dealt with.
-- Answers those that it does not hold, each as `id,MOVED`, or `id,LOST` when Redis has lost it.
local others = {}
for _, one in ipairs(words(sessions)) do
  local session, epoch, audio = string.match(one, '^(%w+),(%d+),(%S+)$')
  local key = KEY.SESSION(session)
  local was = redis.call('HMGET', key, 'epoch', 'gateway', 'worker', 'state', 'audio', 'key')
  if was[1] ~= epoch or was[2] ~= gateway or was[4] ~= 'active' then
    others[#others + 1] = session .. ',' .. (tonumber(was[1] or 0) < tonumber(epoch) and 'LOST' or 'MOVED')
  else
    if tonumber(audio) > tonumber(was[5] or 0) then redis.call('HSET', key, 'audio', audio) end
    redis.call('HSET', key, 'held_at', stamp)
    if was[6] then
      meter(session, audio)
      hold(was[6], session, stamp)
    end
    redis.call('EXPIRE', key, ttl)
    redis.call('EXPIRE', KEY.SESSION_LOG(session), ttl)
    redis.call('ZADD', KEY.SESSIONS(), stamp, session)
    redis.call('ZADD', KEY.SEATS(was[3]), int(now + lease), session)
    redis.call('EXPIRE', KEY.SEATS(was[3]), 60)
  end
end
return others
