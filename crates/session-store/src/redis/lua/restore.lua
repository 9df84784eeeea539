-- Writes an attached session again, unless it has been attached elsewhere or ended since.
--
-- KEYS: 1 the session, then the indexes that hold it as far as they are on the same server
-- ARGV: 1 session, 2 tenant, 3 user, 4 node, 5 made at, 6 now, 7 resume window, 8 lifetime, 9 when the index entries expire,
--       then its names
-- Answers: 1 when written, 0 when it is elsewhere, 2 when it was ended
local there = redis.call('HMGET', KEYS[1], 'node', 'tenant', 'user', 'ended')
if there[1] then
  if there[2] ~= ARGV[2] or there[3] ~= ARGV[3] then
    return 0
  end
  if there[4] then
    return 2
  end
  if there[1] ~= ARGV[4] then
    return 0
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'tenant', ARGV[2], 'user', ARGV[3], 'node', ARGV[4], 'created_at', ARGV[5],
  'attached_at', ARGV[6], 'window', ARGV[7])
for i = 10, #ARGV do
  redis.call('HSET', KEYS[1], ARGV[i], '')
end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], ARGV[9], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[8])
end
return 1
