-- args: engine instance lease
-- Lease one task to the instance under the token `lease`, high lane first. Answers {TASK, json}, or {EMPTY, id, id}: the
-- last entry of either lane, to block on without missing what comes next.
-- An instance that already holds a task is given that one again (its answer was lost).
local lanes = {KEY.QUEUE_HIGH(engine), KEY.QUEUE(engine)}

local function fields(task)
  return redis.call('HMGET', KEY.TASK(task), 'state', 'entry', 'job', 'attempt', 'token', 'stage', 'params', 'needs', 'part')
end

local function leased(task, t)
  local job = redis.call('HMGET', KEY.JOB(t[3]), 'state', 'trace')
  if job[1] == 'queued' then redis.call('HSET', KEY.JOB(t[3]), 'state', 'running', 'started_at', stamp) end
  local answer = {id = task, engine = engine, job = t[3], attempt = tonumber(t[4]), token = t[5], stage = t[6],
    params = t[7], part = tonumber(t[9] or nil), trace = job[2] or nil}
  for _, need in ipairs(words(t[8])) do
    local source = redis.call('HMGET', KEY.TASK(need), 'stage', 'token', 'state')
    if source[3] == 'completed' then
      answer.needs = answer.needs or {}
      table.insert(answer.needs, {id = need, stage = source[1], token = source[2]})
    end
  end
  return {'TASK', cjson.encode(answer)}
end

local function grant(task, t)
  t[4], t[5] = t[4] + 1, lease
  redis.call('HSET', KEY.TASK(task), 'attempt', t[4], 'state', 'running', 'token', lease, 'instance', instance,
    'started_at', stamp, 'progress', '0')
  event(t[3], task, 'running')
  return leased(task, t)
end

for _, key in ipairs(settled and {} or lanes) do
  local held = redis.pcall('XPENDING', key, GROUP, '-', '+', 1, instance)
  local entry = held[1] and redis.call('XRANGE', key, held[1][1], held[1][1])[1]
  if entry then return leased(entry[2][2], fields(entry[2][2])) end
end
for _, key in ipairs(lanes) do
  while redis.call('XLEN', key) > 0 do
    local got = redis.pcall('XREADGROUP', 'GROUP', GROUP, instance, 'COUNT', 1, 'STREAMS', key, '>')
    local entry = got and got[1] and got[1][2][1]
    if entry then
      local t = fields(entry[2][2])
      if t[1] == 'queued' and t[2] == entry[1] then return grant(entry[2][2], t) end
      redis.call('XACK', key, GROUP, entry[1])
      redis.call('XDEL', key, entry[1])
    elseif not (got and got.err) then break
    else redis.call('XGROUP', 'CREATE', key, GROUP, '0') end
  end
end
local function last(key) return (redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1] or {'0-0'})[1] end
return {'EMPTY', last(lanes[1]), last(lanes[2])}
