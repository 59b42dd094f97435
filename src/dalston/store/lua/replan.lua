-- args: job version remove plan order
-- Change a job's plan while it runs: take tasks that have not started out, put others in, and let what
-- waited for that go on. `order` is all ids of the new plan, the sink last. Answers OK, STALE (the plan
-- is no longer of that version, or a task has started) or ENDED.
local key = KEY.JOB(job)
local found = redis.call('HMGET', key, 'state', 'version', 'high', 'open')
if not ACTIVE[found[1]] then return 'ENDED' end
if found[2] ~= version then return 'STALE' end
local gone, kept = {}, {}
for _, task in ipairs(words(remove)) do
  local state = redis.call('HGET', KEY.TASK(task), 'state')
  if not OPEN[state] or state == 'running' then return 'STALE' end
  gone[task] = true
end
for task in pairs(gone) do
  withdraw(task, 'skipped')
  redis.call('DEL', KEY.TASK(task))
end
local tasks, ids = cjson.decode(plan), words(order)
create(job, tasks, found[3])
link(ids)
for _, task in ipairs(ids) do
  local t = redis.call('HMGET', KEY.TASK(task), 'state', 'grows')
  if t[1] == 'completed' and t[2] then redis.call('HDEL', KEY.TASK(task), 'grows') end
  if t[1] == 'waiting' then kept[#kept + 1] = task end
end
redis.call('HSET', key, 'tasks', order, 'open', found[4] - #words(remove) + #tasks)
redis.call('HINCRBY', key, 'version', 1)
start(kept)
return 'OK'
