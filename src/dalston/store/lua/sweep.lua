-- args: lease attempts limit
-- Queue what is due to be tried again, and take back tasks whose lease of `lease` ms ran out: queue
-- them again, or give up after `attempts` tries. Nothing is taken back before one lease after Redis
-- came up, or after it was away: nobody swept for a third of a lease. Answers {promoted, reclaimed}.
local at = now()
local due = redis.call('ZRANGEBYSCORE', KEY.DELAYED(), '-inf', int(at), 'LIMIT', 0, limit)
for _, task in ipairs(due) do
  redis.call('ZREM', KEY.DELAYED(), task)
  if redis.call('HGET', KEY.TASK(task), 'state') == 'retrying' then enqueue(task) end
end

local swept = redis.call('HMGET', KEY.SWEEP(), 'at', 'from')
local from = tonumber(swept[2] or 0)
local uptime = string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')
if at - (swept[1] or 0) > lease / 3 then from = at + lease end
from = math.max(from, at + lease - uptime * 1000)
redis.call('HSET', KEY.SWEEP(), 'at', int(at), 'from', int(from))
if at < from then return {#due, 0} end

local reclaimed = 0
local function reclaim(lane, engine)
  local late = redis.pcall('XPENDING', lane, GROUP, 'IDLE', lease, '-', '+', limit)
  for _, pending in ipairs(late.err and {} or late) do
    local entry = redis.call('XRANGE', lane, pending[1], pending[1])[1]
    local task = entry and entry[2][2] or ''
    local t = redis.call('HMGET', KEY.TASK(task), 'state', 'entry', 'attempt')
    redis.call('XACK', lane, GROUP, pending[1])
    redis.call('XDEL', lane, pending[1])
    if t[1] == 'running' and t[2] == pending[1] then
      reclaimed = reclaimed + 1
      redis.call('HDEL', KEY.TASK(task), 'token')
      if tonumber(t[3]) < tonumber(attempts) then
        enqueue(task)
      else
        close(task, 'failed', cjson.encode({code = 'engine_died', status = 500, message = 'The engine ' ..
          engine .. ' died ' .. t[3] .. ' times on this recording.'}), true)
      end
    end
  end
end
for _, engine in ipairs(redis.call('SMEMBERS', KEY.QUEUES())) do
  reclaim(KEY.QUEUE_HIGH(engine), engine)
  reclaim(KEY.QUEUE(engine), engine)
end
return {#due, reclaimed}
