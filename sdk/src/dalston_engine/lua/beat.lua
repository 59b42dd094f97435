-- args: worker facts ttl
-- Tell gateways that this worker is there: `facts` are the fields of its hash. Answers OK.
local key = KEY.WORKER(worker)
for name, value in pairs(cjson.decode(facts)) do redis.call('HSET', key, name, value) end
redis.call('HSET', key, 'beat', stamp)
redis.call('EXPIRE', key, ttl)
redis.call('ZADD', KEY.WORKERS(), stamp, worker)
return 'OK'
