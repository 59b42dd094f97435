-- args: session epoch attach gateway owner key facts models language avoid lease lost ttl
-- Give a session a seat at a worker, as its attachment `epoch`, which is one more than the one before; `attach`
-- tells this call from another for the same epoch. The first of `models` that a living worker has with this
-- `language` and has room for; the least loaded of those. New sessions leave some room to those that lose
-- their worker. Answers {OK, worker, address, secret, model, models}, {STALE} (a later attachment), {ENDED},
-- {FULL} or {NONE} (no worker alive has any of the models).
local hash = KEY.SESSION(session)
local was = redis.call('HMGET', hash, 'epoch', 'attach', 'worker', 'model', 'state')

local function granted(worker, model)
  local w = redis.call('HMGET', KEY.WORKER(worker), 'address', 'secret', 'models')
  return {'OK', worker, w[1] or '', w[2] or '', model, w[3] or '{}'}
end

local function speaks(languages)
  for _, one in ipairs(languages or {}) do
    if language == '' or one == '*' or one == language then return true end
  end
  return false
end

if was[5] == 'ended' then return {'ENDED'} end
if was[1] and tonumber(was[1]) >= tonumber(epoch) then
  if was[1] == epoch and was[2] == attach then return granted(was[3], was[4]) end
  return {'STALE'}
end

local workers, total, free, wide, shunned = {}, 0, 0, false, {}
for _, one in ipairs(words(avoid)) do shunned[one] = true end
redis.call('ZREMRANGEBYSCORE', KEY.WORKERS(), '-inf', int(now - 60000))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.WORKERS(), int(now - lost), '+inf')) do
  local w = redis.call('HMGET', KEY.WORKER(id), 'state', 'capacity', 'models')
  local capacity = tonumber(w[2] or 0)
  if w[1] == 'ready' then
    redis.call('ZREMRANGEBYSCORE', KEY.SEATS(id), '-inf', stamp)
    local taken = redis.call('ZCARD', KEY.SEATS(id))
    total, free, wide = total + capacity, free + math.max(capacity - taken, 0), wide or capacity > 1
    workers[#workers + 1] = {id = id, room = capacity - taken, share = taken / math.max(capacity, 1),
      models = cjson.decode(w[3] or '{}')}
  end
end

local reserve = 0
if epoch == '1' and #workers >= 2 and wide then reserve = math.max(1, math.floor(total / 10)) end
local able, best, chosen = false, nil, nil
for _, model in ipairs(words(models)) do
  for _, w in ipairs(workers) do
    if speaks(w.models[model]) then
      able = true
      if w.room > 0 and free > reserve and not shunned[w.id] and (not best or w.share < best.share) then best = w end
    end
  end
  chosen = model
  if best then break end
end
if not best then
  if able and epoch == '1' then redis.call('HINCRBY', KEY.REALTIME(), 'refused', 1) end
  return {able and 'FULL' or 'NONE'}
end

if was[3] then redis.call('ZREM', KEY.SEATS(was[3]), session) end
redis.call('ZADD', KEY.SEATS(best.id), int(now + lease), session)
redis.call('EXPIRE', KEY.SEATS(best.id), 60)
redis.call('HSETNX', hash, 'created_at', stamp)
redis.call('HSET', hash, 'state', 'active', 'epoch', epoch, 'attach', attach, 'gateway', gateway, 'worker', best.id,
  'model', chosen, 'owner', owner, 'held_at', stamp)
redis.call('HSETNX', hash, 'facts', facts)  -- from then on `describe` changes them
if key ~= '' then redis.call('HSET', hash, 'key', key) end
redis.call('EXPIRE', hash, ttl)
redis.call('EXPIRE', KEY.SESSION_LOG(session), ttl)
redis.call('ZADD', KEY.SESSIONS(), stamp, session)
redis.call('HINCRBY', KEY.REALTIME(), epoch == '1' and 'sessions' or 'moves', 1)
return granted(best.id, chosen)
