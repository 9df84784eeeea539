-- Drops a value that is older than a version, and refuses it from now on.
--
-- KEYS: 1 the entry
-- ARGV: 1 version, 2 how long it is remembered, milliseconds
-- Answers: 1 remembered, 0 known already
local entry = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'floor')
if entry.err or (entry[3] or '') >= ARGV[1] or (entry[1] == '1' and entry[2] >= ARGV[1]) then
  return 0
end
-- Without its token, a load that began before can't write any more.
redis.call('HDEL', KEYS[1], 'state', 'value', 'loaded', 'expires', 'cost', 'token', 'lease', 'granted')
redis.call('HSET', KEYS[1], 'floor', ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
