-- args: engine instance lease
-- Lease one task to the instance under the token `lease`, high lane first. Answers {TASK, json}, or {EMPTY, id, id}: the
-- last entry of either lane, to block on without missing what comes next.
-- An instance that already holds a task is given that one again (its answer was lost).
local lanes = {KEY.QUEUE_HIGH(engine), KEY.QUEUE(engine)}

local function leased(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'job', 'stage', 'attempt', 'token', 'params', 'needs', 'part')
  local answer = {id = task, engine = engine, job = t[1], stage = t[2], attempt = tonumber(t[3]),
    token = t[4], params = t[5], part = tonumber(t[7] or nil)}
  for _, need in ipairs(words(t[6])) do
    local source = redis.call('HMGET', KEY.TASK(need), 'stage', 'token', 'state')
    if source[3] == 'completed' then
      answer.needs = answer.needs or {}
      table.insert(answer.needs, {id = need, stage = source[1], token = source[2]})
    end
  end
  return {'TASK', cjson.encode(answer)}
end

local function grant(task, job, attempt)
  redis.call('HSET', KEY.TASK(task), 'attempt', attempt + 1, 'state', 'running', 'token', lease,
    'instance', instance, 'started_at', int(now()), 'progress', '0')
  if redis.call('HGET', KEY.JOB(job), 'state') == 'queued' then
    redis.call('HSET', KEY.JOB(job), 'state', 'running', 'started_at', int(now()))
  end
  event(job, task, 'running')
  return leased(task)
end

for _, lane in ipairs(lanes) do
  local held = redis.pcall('XPENDING', lane, GROUP, '-', '+', 1, instance)
  if held.err then
    redis.call('XGROUP', 'CREATE', lane, GROUP, '0', 'MKSTREAM')
  elseif held[1] then
    local entry = redis.call('XRANGE', lane, held[1][1], held[1][1])[1]
    if entry then return leased(entry[2][2]) end
  end
end
for _, lane in ipairs(lanes) do
  while true do
    local read = redis.call('XREADGROUP', 'GROUP', GROUP, instance, 'COUNT', 1, 'STREAMS', lane, '>')
    local entry = read and read[1] and read[1][2][1]
    if not entry then break end
    local task = entry[2][2]
    local t = redis.call('HMGET', KEY.TASK(task), 'state', 'entry', 'job', 'attempt')
    if t[1] == 'queued' and t[2] == entry[1] then return grant(task, t[3], t[4]) end
    redis.call('XACK', lane, GROUP, entry[1])
    redis.call('XDEL', lane, entry[1])
  end
end
local function last(lane) return (redis.call('XREVRANGE', lane, '+', '-', 'COUNT', 1)[1] or {'0-0'})[1] end
return {'EMPTY', last(lanes[1]), last(lanes[2])}
