-- args: owner token value before ttl
-- Note what a request with an idempotency key has become, if what was noted is still `before`. Answers
-- what is noted now.
local key = KEY.IDEMPOTENCY(owner, token)
local found = redis.call('GET', key) or ''
if found ~= before then return found end
redis.call('SET', key, value, 'EX', ttl)
return value
