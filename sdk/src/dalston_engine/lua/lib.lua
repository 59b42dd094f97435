-- Shared by all scripts. Times are milliseconds since 1970, from Redis itself.
local function int(n) return string.format('%.0f', n) end

local clock = redis.call('TIME')
local function now() return clock[1] * 1000 + math.floor(clock[2] / 1000) end

local function event(job, task, state)
  redis.call('XADD', KEY.EVENTS(), 'MAXLEN', '~', 10000, '*', 'job', job, 'task', task, 'state', state)
end

local function words(text)
  local list = {}
  for word in string.gmatch(text or '', '%S+') do list[#list + 1] = word end
  return list
end

local function lane_of(engine, high) return high and KEY.QUEUE_HIGH(engine) or KEY.QUEUE(engine) end

-- Put a task on its engine's queue.
local function enqueue(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'engine', 'high', 'job')
  redis.call('SADD', KEY.QUEUES(), t[1])
  local entry = redis.call('XADD', lane_of(t[1], t[2]), '*', 'task', task)
  redis.call('HSET', KEY.TASK(task), 'state', 'queued', 'queued_at', int(now()), 'entry', entry)
  event(t[3], task, 'queued')
end

-- Take a queued or leased task's entry off its queue.
local function unqueue(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'engine', 'high', 'entry')
  redis.call('XACK', lane_of(t[1], t[2]), GROUP, t[3])
  redis.call('XDEL', lane_of(t[1], t[2]), t[3])
end

-- Let those go on that need this task, or skip them; returns how many ended by that.
local function pass_on(task, go)
  local ended = 0
  for _, dependent in ipairs(words(redis.call('HGET', KEY.TASK(task), 'dependents'))) do
    local key = KEY.TASK(dependent)
    if redis.call('HGET', key, 'state') == 'waiting' then
      if not go then
        redis.call('HSET', key, 'state', 'skipped')
        ended = ended + 1 + pass_on(dependent, false)
      elseif redis.call('HINCRBY', key, 'unmet', -1) == 0 then
        enqueue(dependent)
      end
    end
  end
  return ended
end

-- End a task for good. What needs it goes on, waits for the plan to grow, or is skipped; the job's
-- last task hands it to an orchestrator. Whoever gave up leaves a dead letter.
local function close(task, state, error, gave_up, seconds)
  local key = KEY.TASK(task)
  local t = redis.call('HMGET', key, 'job', 'required', 'grows', 'engine')
  redis.call('HSET', key, 'state', state, 'settled_at', int(now()), 'error', error, 'seconds', seconds or '')
  if gave_up then
    redis.call('HSET', key, 'letter',
      redis.call('XADD', KEY.DEAD(t[4]), 'MAXLEN', '~', 1000, '*', 'task', task, 'error', error))
  end
  event(t[1], task, state)
  local grows = state == 'completed' and t[3]
  if grows then redis.call('XADD', KEY.WORK(), '*', 'work', 'grow', 'job', t[1], 'task', task) end
  local go = state == 'completed' or state == 'failed' and t[2] == '0'
  local ended = grows and 1 or 1 + pass_on(task, go)
  if redis.call('HINCRBY', KEY.JOB(t[1]), 'open', -ended) == 0 then
    redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', t[1])
  end
end
