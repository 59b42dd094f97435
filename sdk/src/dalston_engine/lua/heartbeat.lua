-- args: engine instance card state tasks ttl
-- Tell the fleet that this instance is alive and what its engine can do. Answers OK.
redis.call('HSET', KEY.ENGINE(engine), 'card', card)
redis.call('HSET', KEY.INSTANCE(engine, instance), 'state', state, 'tasks', tasks, 'seen_at', int(now()))
redis.call('EXPIRE', KEY.INSTANCE(engine, instance), ttl)
redis.call('ZADD', KEY.ENGINES(), int(now()), engine .. '/' .. instance)
return 'OK'
