-- Shared by all scripts. Times are milliseconds since 1970, from Redis itself.
local function int(n) return string.format('%.0f', n) end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local stamp = int(now)

local settled = false -- whether this very script has ended the instance's lease: then it holds none

local function event(job, task, state)
  redis.call('XADD', KEY.EVENTS(), 'MAXLEN', '~', 10000, '*', 'job', job, 'task', task, 'state', state)
end

local function words(text)
  local list = {}
  for word in string.gmatch(text or '', '%S+') do list[#list + 1] = word end
  return list
end

local function lane(t) return t.high and KEY.QUEUE_HIGH(t.engine) or KEY.QUEUE(t.engine) end

-- A task as the functions below take it: read once, since every call from a script costs.
local function read(task)
  local t = redis.call('HMGET', KEY.TASK(task), 'state', 'job', 'engine', 'high', 'entry', 'token', 'attempt',
    'instance', 'required', 'grows', 'dependents')
  return {id = task, state = t[1], job = t[2], engine = t[3], high = t[4], entry = t[5], token = t[6],
    attempt = tonumber(t[7] or nil), instance = t[8], required = t[9] ~= '0', grows = t[10], dependents = t[11]}
end

-- Put a task on its engine's queue.
local function enqueue(t)
  local entry = redis.call('XADD', lane(t), '*', 'task', t.id)
  redis.call('HSET', KEY.TASK(t.id), 'state', 'queued', 'queued_at', stamp, 'entry', entry)
  event(t.job, t.id, 'queued')
end

-- Take a queued or leased task's entry off its queue.
local function unqueue(t)
  redis.call('XACK', lane(t), GROUP, t.entry)
  redis.call('XDEL', lane(t), t.entry)
end

-- Let those go on that need this task, or skip them; returns how many ended by that.
local function pass_on(t, go)
  local ended = 0
  for _, dependent in ipairs(words(t.dependents)) do
    local d = read(dependent)
    if d.state == 'waiting' and go then
      if redis.call('HINCRBY', KEY.TASK(dependent), 'unmet', -1) == 0 then enqueue(d) end
    elseif d.state == 'waiting' then
      redis.call('HSET', KEY.TASK(dependent), 'state', 'skipped')
      ended = ended + 1 + pass_on(d, false)
    end
  end
  return ended
end

-- End a task for good. What needs it goes on, waits for the plan to grow, or is skipped; the job's
-- last task hands it to an orchestrator. Whoever gave up leaves a dead letter.
local function close(t, state, error, gave_up, seconds, audio)
  local key = KEY.TASK(t.id)
  redis.call('HSET', key, 'state', state, 'settled_at', stamp, 'error', error, 'seconds', seconds or '', 'audio', audio or '')
  local letter = gave_up
    and redis.call('XADD', KEY.DEAD(t.engine), 'MAXLEN', '~', 1000, '*', 'task', t.id, 'error', error)
  if letter then redis.call('HSET', key, 'letter', letter) end
  event(t.job, t.id, state)
  local grows = state == 'completed' and t.grows
  if grows then redis.call('XADD', KEY.WORK(), '*', 'work', 'grow', 'job', t.job, 'task', t.id) end
  local go = state == 'completed' or state == 'failed' and not t.required
  local ended = grows and 1 or 1 + pass_on(t, go)
  local open = redis.call('HINCRBY', KEY.JOB(t.job), 'open', -ended)
  if open == 0 then redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', t.job) end
  if open < 0 then redis.call('DEL', KEY.JOB(t.job)) end -- Redis has lost the job: it is submitted again
end
