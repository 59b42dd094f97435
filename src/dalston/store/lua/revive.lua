-- args: job run all
-- Begin a job's run number `run`: what did not complete runs again. Or, once a run, start this very run
-- over with `all` its tasks. Its outcome is not on disk. Answers OK, EXISTS (Redis is as far) or NONE.
local key = KEY.JOB(job)
local found = redis.call('HMGET', key, 'state', 'tasks', 'created_at', 'restarted', 'run', 'key')
if not found[1] then return 'NONE' end
if all == '' and tonumber(found[5]) >= tonumber(run) then return 'EXISTS' end
if all ~= '' and (found[5] ~= run or found[4]) then return 'EXISTS' end
local again = {}
for _, task in ipairs(words(found[2])) do
  local name = KEY.TASK(task)
  local state = redis.call('HGET', name, 'state')
  redis.call('PERSIST', name)
  if all ~= '' or state ~= 'completed' then
    if OPEN[state] then withdraw(task, 'waiting') end
    unlist(task)
    redis.call('HDEL', name, 'token', 'error', 'seconds', 'progress', 'settled_at', 'started_at', 'letter')
    redis.call('HSET', name, 'state', 'waiting', 'attempt', 0)
    again[#again + 1] = task
  elseif redis.call('HEXISTS', name, 'grows') == 1 then
    redis.call('XADD', KEY.WORK(), '*', 'work', 'grow', 'job', job, 'task', task)
  end
end
redis.call('PERSIST', key)
redis.call('HDEL', key, 'error', 'finished_at')
if all ~= '' then redis.call('HSET', key, 'restarted', 1) else redis.call('HDEL', key, 'restarted') end
redis.call('HSET', key, 'state', 'queued', 'open', #again, 'run', run)
redis.call('ZADD', KEY.ACTIVE(), found[3], job)
redis.call('ZREM', KEY.LIMITED('any'), job)
if found[6] then hold(found[6], job, 0) end
redis.call('ZREM', KEY.EXPIRY(), job)
event(job, '', 'queued')
start(again)
if #again == 0 then redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', job) end
return 'OK'
