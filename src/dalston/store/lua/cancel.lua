-- args: job run
-- End every open task of a job; running ones are told at their next renewal. Answers OK, ENDING (all
-- its tasks have ended already), the state of a job that ended, or NONE (Redis has not heard of this run).
local key = KEY.JOB(job)
local found = redis.call('HMGET', key, 'state', 'open', 'tasks', 'run')
if tonumber(found[4] or 0) < tonumber(run) then return 'NONE' end
if not ACTIVE[found[1]] then return found[1] or 'NONE' end
if tonumber(found[2]) == 0 then return 'ENDING' end
for _, task in ipairs(words(found[3])) do
  if OPEN[redis.call('HGET', KEY.TASK(task), 'state')] then
    withdraw(task, 'cancelled')
    event(job, task, 'cancelled')
  end
end
redis.call('HSET', key, 'open', 0)
redis.call('XADD', KEY.WORK(), '*', 'work', 'publish', 'job', job)
return 'OK'
