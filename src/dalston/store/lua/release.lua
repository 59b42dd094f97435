-- args: job key
-- Give the place of a job that was let in and does not come to others. One that has come keeps its own.
redis.call('ZREM', KEY.LIMITED('any'), job)
if redis.call('ZSCORE', KEY.LIMITED(key), job) ~= '0' then redis.call('ZREM', KEY.LIMITED(key), job) end
return 'OK'
