-- args: job all
-- Run an ended job's tasks again: those that did not complete, or `all`. Its outcome is no longer on
-- disk. Answers OK, EXISTS (it has not ended) or NONE.
local key = KEY.JOB(job)
local found = redis.call('HMGET', key, 'state', 'tasks', 'created_at', 'restarted')
if not found[1] then return 'NONE' end
if ACTIVE[found[1]] and (all == '' or found[4]) then return 'EXISTS' end
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
redis.call('HSET', key, 'state', 'queued', 'open', #again)
redis.call('ZADD', KEY.ACTIVE(), found[3], job)
redis.call('ZREM', KEY.EXPIRY(), job)
event(job, '', 'queued')
start(again)
if #again == 0 then redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', job) end
return 'OK'
