-- args: deliveries after again
-- Have deliveries made `after` ms from now; those that wait already stay as they are, unless `again`.
for _, delivery in ipairs(words(deliveries)) do
  redis.call('ZREM', KEY.UNDELIVERED(), delivery)
  if again ~= '' then redis.call('ZADD', KEY.DELIVERIES(), int(now + after), delivery)
  else redis.call('ZADD', KEY.DELIVERIES(), 'NX', int(now + after), delivery) end
end
return 'OK'
