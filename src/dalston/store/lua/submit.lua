-- args: job owner request plan high
-- Create a job and its tasks, and queue those that need nothing. Answers OK or EXISTS.
if redis.call('EXISTS', KEY.JOB(job)) == 1 then return 'EXISTS' end
local created = int(now())
local tasks = cjson.decode(plan)
local dependents, ids = {}, {}
for _, task in ipairs(tasks) do
  ids[#ids + 1] = task.id
  for _, need in ipairs(task.needs) do
    dependents[need] = (dependents[need] or '') .. ' ' .. task.id
  end
end
redis.call('HSET', KEY.JOB(job), 'id', job, 'state', 'queued', 'owner', owner, 'created_at', created,
  'request', request, 'tasks', table.concat(ids, ' '), 'open', #tasks)
redis.call('ZADD', KEY.JOBS(), created, job)
redis.call('ZADD', KEY.ACTIVE(), created, job)
event(job, '', 'queued')
for _, task in ipairs(tasks) do
  redis.call('HSET', KEY.TASK(task.id), 'id', task.id, 'job', job, 'stage', task.stage,
    'engine', task.engine, 'params', task.params, 'needs', table.concat(task.needs, ' '),
    'dependents', dependents[task.id] or '', 'unmet', #task.needs, 'attempt', 0, 'high', high,
    'state', 'waiting')
  if #task.needs == 0 then enqueue(task.id) end
end
return 'OK'
