-- args: lease attempts limit
-- Queue what is due to be tried again, and take back tasks whose lease of `lease` ms ran out: queue
-- them again, or give up after `attempts` tries. Nothing is taken back before one lease after Redis
-- came up, or after it was away: nobody swept for a third of a lease. Answers {promoted, reclaimed}.
local at = now
local due = redis.call('ZRANGEBYSCORE', KEY.DELAYED(), '-inf', int(at), 'LIMIT', 0, limit)
for _, task in ipairs(due) do
  redis.call('ZREM', KEY.DELAYED(), task)
  local t = read(task)
  if t.state == 'retrying' then enqueue(t) end
end

local swept = redis.call('HMGET', KEY.SWEEP(), 'at', 'from')
local from = tonumber(swept[2] or 0)
local uptime = string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')
if at - (swept[1] or 0) > lease / 3 then from = at + lease end
from = math.max(math.min(from, at + lease), at + lease - uptime * 1000) -- the clock may have been set back
redis.call('HSET', KEY.SWEEP(), 'at', int(at), 'from', int(from))
if at < from then return {#due, 0} end

local reclaimed = 0
local function reclaim(key, engine)
  local late = redis.pcall('XPENDING', key, GROUP, 'IDLE', lease, '-', '+', limit)
  for _, pending in ipairs(late.err and {} or late) do
    local entry = redis.call('XRANGE', key, pending[1], pending[1])[1]
    local t = read(entry and entry[2][2] or '')
    redis.call('XACK', key, GROUP, pending[1])
    redis.call('XDEL', key, pending[1])
    if t.state == 'running' and t.entry == pending[1] then
      reclaimed = reclaimed + 1
      redis.call('HDEL', KEY.TASK(t.id), 'token')
      if t.attempt < tonumber(attempts) then
        enqueue(t)
      else
        close(t, 'failed', cjson.encode({code = 'engine_died', status = 500, message = 'The engine ' ..
          engine .. ' died ' .. t.attempt .. ' times on this recording.'}), true)
      end
    end
  end
end
for _, engine in ipairs(redis.call('SMEMBERS', KEY.QUEUES())) do
  reclaim(KEY.QUEUE_HIGH(engine), engine)
  reclaim(KEY.QUEUE(engine), engine)
end
if reclaimed > 0 then redis.call('HINCRBY', KEY.SWEEP(), 'reclaimed', reclaimed) end
return {#due, reclaimed}
