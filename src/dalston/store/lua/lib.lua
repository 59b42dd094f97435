-- Shared by the server's scripts, after the engines' library.
local ACTIVE = {queued = true, running = true}
local OPEN = {waiting = true, queued = true, running = true, retrying = true}

-- Take an open task from wherever it waits or runs, and mark it. The owner of a cancelled one is told
-- so, of any other that it is no longer the owner.
local function withdraw(task, state)
  local t = read(task)
  if state ~= 'cancelled' then redis.call('HDEL', KEY.TASK(task), 'token') end
  if t.state == 'queued' or t.state == 'running' then unqueue(t) end
  if t.state == 'retrying' then redis.call('ZREM', KEY.DELAYED(), task) end
  redis.call('HSET', KEY.TASK(task), 'state', state, 'settled_at', stamp)
end

-- Throw away the dead letter a task left.
local function unlist(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'engine', 'letter')
  if t[2] then redis.call('XDEL', KEY.DEAD(t[1]), t[2]) end
end

-- Whether what needs this task may go on.
local function met(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'state', 'required', 'grows')
  return t[1] == 'completed' and not t[3] or t[1] == 'failed' and t[2] == '0'
end

-- Whether something this task needs can no longer be had.
local function stopped(task)
  for _, need in ipairs(words(redis.call('HGET', KEY.TASK(task), 'needs'))) do
    local t = redis.call('HMGET', KEY.TASK(need), 'state', 'required')
    if t[1] == 'skipped' or t[1] == 'cancelled' or t[1] == 'failed' and t[2] ~= '0' then return true end
  end
  return false
end

-- Count a job among those of an access key: since `at`, in ms, or 0 once it is submitted.
local function hold(key, job, at)
  redis.call('ZADD', KEY.LIMITED(key), at, job)
  redis.call('EXPIRE', KEY.LIMITED(key), 604800)
end

-- Count the audio of a job that is over against its access key, once whatever becomes of it; its first task
-- has found out how much it is.
local function charge(job, key, tasks)
  local first = words(tasks)[1]
  local audio = key and first and tonumber(redis.call('HGET', KEY.TASK(first), 'audio') or nil)
  if not audio or redis.call('HSETNX', KEY.JOB(job), 'charged', 1) == 0 then return end
  redis.call('HINCRBYFLOAT', KEY.LIMIT(key), int(math.floor(now / 60000)), audio)
  redis.call('EXPIRE', KEY.LIMIT(key), 7200)
end

-- Count what a live session has heard so far against its access key, each second once.
local function meter(session, audio)
  local was = redis.call('HMGET', KEY.SESSION(session), 'key', 'metered')
  local more = tonumber(audio or 0) - tonumber(was[2] or 0)
  if not was[1] or more <= 0 then return end
  redis.call('HINCRBYFLOAT', KEY.LIMIT(was[1]), int(math.floor(now / 60000)), more)
  redis.call('EXPIRE', KEY.LIMIT(was[1]), 7200)
  redis.call('HSET', KEY.SESSION(session), 'metered', audio)
end

-- Create tasks of a job; `start` lets those go on that may.
local function create(job, tasks, high)
  for _, task in ipairs(tasks) do
    local key = KEY.TASK(task.id)
    redis.call('DEL', key)
    redis.call('SADD', KEY.QUEUES(), task.engine)
    redis.call('HSET', key, 'job', job, 'stage', task.stage, 'engine', task.engine,
      'params', task.params, 'needs', table.concat(task.needs, ' '), 'attempt', 0, 'state', 'waiting')
    if high then redis.call('HSET', key, 'high', 1) end
    if task.required == false then redis.call('HSET', key, 'required', 0) end
    if task.grows then redis.call('HSET', key, 'grows', 1) end
    if task.each then redis.call('HSET', key, 'each', 1) end
    if task.part then redis.call('HSET', key, 'part', task.part) end
  end
end

-- Tell every task of a plan what needs it.
local function link(ids)
  local dependents = {}
  for _, task in ipairs(ids) do
    for _, need in ipairs(words(redis.call('HGET', KEY.TASK(task), 'needs'))) do
      dependents[need] = (dependents[need] and dependents[need] .. ' ' or '') .. task
    end
  end
  for need, list in pairs(dependents) do redis.call('HSET', KEY.TASK(need), 'dependents', list) end
end

-- Count what each waiting task still needs, and queue those that need nothing.
local function start(tasks)
  for _, task in ipairs(tasks) do
    local unmet = 0
    for _, need in ipairs(words(redis.call('HGET', KEY.TASK(task), 'needs'))) do
      if not met(need) then unmet = unmet + 1 end
    end
    if unmet == 0 then enqueue(read(task)) else redis.call('HSET', KEY.TASK(task), 'unmet', unmet) end
  end
end
