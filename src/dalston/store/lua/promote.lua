-- args: limit
-- Queue the delayed tasks whose time has come. Answers how many.
local due = redis.call('ZRANGEBYSCORE', KEY.DELAYED(), '-inf', int(now()), 'LIMIT', 0, limit)
for _, task in ipairs(due) do
  redis.call('ZREM', KEY.DELAYED(), task)
  if redis.call('HGET', KEY.TASK(task), 'state') == 'retrying' then enqueue(task) end
end
return #due
