-- Sets with how many sessions users are in a conversation on a node.
--
-- KEYS: 1 the conversation's presence
-- ARGV: 1 lifetime, then pairs of 'NODE/USER' and a number, 0 to remove it
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
