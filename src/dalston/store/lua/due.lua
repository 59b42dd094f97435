-- args: lease limit
-- Deliveries that are due, each taken for `lease` ms: whoever took them and died leaves them to others.
local due = redis.call('ZRANGEBYSCORE', KEY.DELIVERIES(), '-inf', stamp, 'LIMIT', 0, limit)
for _, delivery in ipairs(due) do redis.call('ZADD', KEY.DELIVERIES(), int(now + lease), delivery) end
return due
