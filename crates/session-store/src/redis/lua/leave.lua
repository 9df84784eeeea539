-- Ends a node's lease at once.
--
-- KEYS: 1 the node's instance, 2 the instances by last beat
-- ARGV: 1 the node
if redis.call('DEL', KEYS[1]) == 1 then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[2], 'XX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
end
return 1
