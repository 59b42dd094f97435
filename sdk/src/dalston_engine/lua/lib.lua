-- Shared by all scripts. Times are milliseconds since 1970, from Redis itself.
local function int(n) return string.format('%.0f', n) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function event(job, task, state)
  redis.call('XADD', KEY.EVENTS(), 'MAXLEN', '~', 10000, '*', 'job', job, 'task', task, 'state', state)
end

local function words(text)
  local list = {}
  for word in string.gmatch(text or '', '%S+') do list[#list + 1] = word end
  return list
end

local function lane_of(engine, high)
  if high == '1' then return KEY.QUEUE_HIGH(engine) end
  return KEY.QUEUE(engine)
end

-- Put a task on its engine's queue.
local function enqueue(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'engine', 'high', 'job')
  redis.call('HSET', KEY.TASK(task), 'state', 'queued', 'queued_at', int(now()))
  redis.call('XADD', lane_of(t[1], t[2]), '*', 'task', task)
  event(t[3], task, 'queued')
end

-- Take a leased task's entry off its queue.
local function unqueue(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'engine', 'high', 'entry')
  local lane = lane_of(t[1], t[2])
  redis.call('XACK', lane, GROUP, t[3])
  redis.call('XDEL', lane, t[3])
end

-- Mark every task that can no longer run because of this one; returns how many.
local function skip_dependents(task)
  local skipped = 0
  for _, dependent in ipairs(words(redis.call('HGET', KEY.TASK(task), 'dependents'))) do
    if redis.call('HGET', KEY.TASK(dependent), 'state') == 'waiting' then
      redis.call('HSET', KEY.TASK(dependent), 'state', 'skipped')
      skipped = skipped + 1 + skip_dependents(dependent)
    end
  end
  return skipped
end

-- End a task for good, release or skip what depends on it; the last one hands the job on.
local function close(task, state, error)
  local key = KEY.TASK(task)
  local job = redis.call('HGET', key, 'job')
  redis.call('HSET', key, 'state', state, 'settled_at', int(now()), 'error', error)
  event(job, task, state)
  local closed = 1
  if state == 'completed' then
    redis.call('HSET', key, 'progress', '1')
    for _, dependent in ipairs(words(redis.call('HGET', key, 'dependents'))) do
      if redis.call('HINCRBY', KEY.TASK(dependent), 'unmet', -1) == 0
          and redis.call('HGET', KEY.TASK(dependent), 'state') == 'waiting' then
        enqueue(dependent)
      end
    end
  else
    closed = closed + skip_dependents(task)
  end
  if redis.call('HINCRBY', KEY.JOB(job), 'open', -closed) == 0 then
    redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', job)
  end
end
