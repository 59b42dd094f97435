-- args: engine instance card state totals ttl
-- Tell the fleet that this instance is alive and what its engine can do. Answers OK.
redis.call('HSET', KEY.ENGINE(engine), 'card', card, 'seen_at', stamp)
redis.call('HSET', KEY.INSTANCE(engine, instance), 'state', state, 'totals', totals, 'seen_at', stamp)
redis.call('EXPIRE', KEY.INSTANCE(engine, instance), ttl)
redis.call('ZADD', KEY.ENGINES(), stamp, engine .. '/' .. instance)
return 'OK'
