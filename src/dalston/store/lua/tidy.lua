-- args: idle forget
-- Forget consumers that hold nothing and were last seen `idle` ms ago, instances last heard from
-- `forget` ms ago, and dead letters of jobs that were deleted. Answers how many.
local count = redis.call('ZREMRANGEBYSCORE', KEY.ENGINES(), '-inf', int(now - forget))
local function tidy(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups.err and {} or groups) do
    for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group[2])) do
      -- name, its value, pending, its value, idle, its value, …
      if c[4] == 0 and c[6] > tonumber(idle) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group[2], c[2])
        count = count + 1
      end
    end
  end
end
tidy(KEY.WORK())
local function drop_letters(stream)
  for _, letter in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    if not redis.call('ZSCORE', KEY.JOBS(), string.match(letter[2][2], '^[^.]+')) then
      redis.call('XDEL', stream, letter[1])
      count = count + 1
    end
  end
end
for _, engine in ipairs(redis.call('SMEMBERS', KEY.QUEUES())) do
  drop_letters(KEY.DEAD(engine))
  tidy(KEY.QUEUE_HIGH(engine))
  tidy(KEY.QUEUE(engine))
end
return count
