-- args: job key rate concurrent minutes room
-- Let a job in: within the limits of its access key, and while fewer than `room` jobs are at work; 0 is no
-- limit. Answers {OK | QUOTA | CONCURRENT | FULL | RATE, ms until it may be OK, 0 where nobody knows}.
rate, concurrent, minutes, room = tonumber(rate), tonumber(concurrent), tonumber(minutes), tonumber(room)
local used, mine, MINUTE = KEY.LIMIT(key), KEY.LIMITED(key), 60000
local coming, limited = KEY.LIMITED('any'), rate + concurrent + minutes > 0 -- let in, not submitted yet
local held = redis.call('ZSCORE', coming, job) or redis.call('ZSCORE', mine, job)
if held and (held ~= '0' or redis.call('ZSCORE', KEY.ACTIVE(), job)) then return {'OK', 0} end

if minutes > 0 then
  local spent, order = {}, {}
  local total, found = 0, redis.call('HGETALL', used)
  for n = 1, #found, 2 do
    local minute = tonumber(found[n])
    if minute and (minute + 60) * MINUTE <= now then redis.call('HDEL', used, found[n])
    elseif minute then
      spent[minute], order[#order + 1] = tonumber(found[n + 1]), minute
      total = total + spent[minute]
    end
  end
  table.sort(order)
  for _, minute in ipairs(order) do
    if total < minutes * 60 then break end
    total = total - spent[minute]
    if total < minutes * 60 then return {'QUOTA', (minute + 60) * MINUTE - now} end
  end
end

if limited then
  local running, found = 0, redis.call('ZRANGE', mine, 0, -1, 'WITHSCORES')
  for n = 1, #found, 2 do
    if redis.call('ZSCORE', KEY.ACTIVE(), found[n]) or tonumber(found[n + 1]) > now - MINUTE then
      running = running + 1
    else redis.call('ZREM', mine, found[n]) end
  end
  if concurrent > 0 and running >= concurrent then return {'CONCURRENT', 0} end
end

if room > 0 then
  redis.call('ZREMRANGEBYSCORE', coming, '-inf', now - MINUTE)
  if redis.call('ZCARD', KEY.ACTIVE()) + redis.call('ZCARD', coming) >= room then return {'FULL', 0} end
end

if rate > 0 then -- GCRA: `due` is when the next request would come if all came evenly
  local every = MINUTE / rate
  local due = math.max(now, tonumber(redis.call('HGET', used, 'due') or 0))
  local early = due - now - math.max(MINUTE - every, 0)
  if early > 0.001 then return {'RATE', math.ceil(early)} end
  redis.call('HSET', used, 'due', string.format('%.3f', due + every))
  redis.call('EXPIRE', used, 7200)
end

if room > 0 then
  redis.call('ZADD', coming, stamp, job)
  redis.call('EXPIRE', coming, 120)
end
if limited then hold(key, job, stamp) end
return {'OK', 0}
