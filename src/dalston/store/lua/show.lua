-- args: job
-- A job and all its tasks as they are at one moment. Answers {fields, {id, fields}…}, or nothing.
local found = redis.call('HGETALL', KEY.JOB(job))
if #found == 0 then return {} end
local answer = {found}
for _, task in ipairs(words(redis.call('HGET', KEY.JOB(job), 'tasks'))) do
  answer[#answer + 1] = {task, redis.call('HGETALL', KEY.TASK(task))}
end
return answer
