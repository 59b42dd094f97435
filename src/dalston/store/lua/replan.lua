-- args: job version remove plan order
-- Change a job's plan while it runs: take tasks that have not started out, put others in, and let what
-- waited for that go on. `order` is all ids of the new plan, each after what it needs. A plan grows when
-- tasks planned `each` go, or none at all; it may then grow no more. Answers OK, STALE (the plan is no
-- longer of that version, or a task has started) or ENDED.
local key = KEY.JOB(job)
local found = redis.call('HMGET', key, 'state', 'version', 'high', 'open')
if not ACTIVE[found[1]] then return 'ENDED' end
if found[2] ~= version then return 'STALE' end
local open, gone = tonumber(found[4]), words(remove)
local growing = #gone == 0
for _, task in ipairs(gone) do
  local t = redis.call('HMGET', KEY.TASK(task), 'state', 'each')
  if t[1] == 'running' or not OPEN[t[1]] and t[1] ~= 'skipped' then return 'STALE' end
  growing = growing or t[2]
end
for _, task in ipairs(gone) do
  if OPEN[redis.call('HGET', KEY.TASK(task), 'state')] then open = open - 1 end
  withdraw(task, 'skipped')
  redis.call('DEL', KEY.TASK(task))
end
local tasks, ids, waiting = cjson.decode(plan), words(order), {}
create(job, tasks, found[3])
link(ids)
open = open + #tasks
for _, task in ipairs(ids) do
  local t = redis.call('HMGET', KEY.TASK(task), 'state', 'grows')
  if growing and t[1] == 'completed' and t[2] then redis.call('HDEL', KEY.TASK(task), 'grows') end
  if t[1] == 'waiting' then
    if stopped(task) then
      redis.call('HSET', KEY.TASK(task), 'state', 'skipped')
      open = open - 1
    else
      waiting[#waiting + 1] = task
    end
  end
end
redis.call('HSET', key, 'tasks', order, 'open', open)
redis.call('HINCRBY', key, 'version', 1)
start(waiting)
if open == 0 then redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', job) end
return 'OK'
