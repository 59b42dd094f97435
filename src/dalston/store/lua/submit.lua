-- args: job run owner created request plan high trace key
-- Create a job and its tasks, and queue those that need nothing. Answers OK or EXISTS.
if redis.call('EXISTS', KEY.JOB(job)) == 1 then return 'EXISTS' end
local tasks, ids = cjson.decode(plan), {}
for n, task in ipairs(tasks) do ids[n] = task.id end
redis.call('HSET', KEY.JOB(job), 'state', 'queued', 'owner', owner, 'created_at', created,
  'request', request, 'tasks', table.concat(ids, ' '), 'open', #tasks, 'version', 1, 'run', run)
if high ~= '' then redis.call('HSET', KEY.JOB(job), 'high', 1) end
if trace ~= '' then redis.call('HSET', KEY.JOB(job), 'trace', trace) end
redis.call('ZREM', KEY.LIMITED('any'), job)
if key ~= '' then
  redis.call('HSET', KEY.JOB(job), 'key', key)
  hold(key, job, 0)
end
redis.call('ZADD', KEY.JOBS(), created, job)
redis.call('ZADD', KEY.ACTIVE(), created, job)
redis.call('ZREM', KEY.EXPIRY(), job)
event(job, '', 'queued')
create(job, tasks, high ~= '')
link(ids)
start(ids)
return 'OK'
