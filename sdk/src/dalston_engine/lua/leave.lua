-- args: engine instance
-- Forget an instance that stops in good order. Answers OK.
redis.call('DEL', KEY.INSTANCE(engine, instance))
redis.call('ZREM', KEY.ENGINES(), engine .. '/' .. instance)
for _, lane in ipairs({KEY.QUEUE(engine), KEY.QUEUE_HIGH(engine)}) do
  local held = redis.pcall('XPENDING', lane, GROUP, '-', '+', 1, instance)
  -- Deleting a consumer deletes its leases, so one that still holds a task is left for reclaim.
  if not held.err and not held[1] then redis.call('XGROUP', 'DELCONSUMER', lane, GROUP, instance) end
end
return 'OK'
