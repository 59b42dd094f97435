-- args: engine lease attempts error
-- Take back tasks whose lease of `lease` ms ran out: queue them again, or fail them after
-- `attempts` tries. Nothing is reclaimed before one lease after Redis itself came up.
-- Answers how many.
local uptime = string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')
if uptime * 1000 < tonumber(lease) then return 0 end
local reclaimed = 0
for _, lane in ipairs({KEY.QUEUE_HIGH(engine), KEY.QUEUE(engine)}) do
  local late = redis.pcall('XPENDING', lane, GROUP, 'IDLE', lease, '-', '+', 100)
  for _, pending in ipairs(late.err and {} or late) do
    local entry = redis.call('XRANGE', lane, pending[1], pending[1])[1]
    local task = entry and entry[2][2]
    redis.call('XACK', lane, GROUP, pending[1])
    redis.call('XDEL', lane, pending[1])
    local t = redis.call('HMGET', KEY.TASK(task or ''), 'state', 'entry', 'attempt')
    if t[1] == 'running' and t[2] == pending[1] then
      reclaimed = reclaimed + 1
      redis.call('HDEL', KEY.TASK(task), 'token')
      if tonumber(t[3]) >= tonumber(attempts) then close(task, 'failed', error) else enqueue(task) end
    end
  end
end
return reclaimed
