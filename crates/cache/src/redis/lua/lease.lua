-- Extends a lease, or gives it back.
--
-- KEYS: 1 the entry
-- ARGV: 1 token of the lease, 2 lease in milliseconds, 0 to give it back
-- Answers: 1 done, 0 the lease is another's or was broken
local token = redis.pcall('HGET', KEYS[1], 'token')
if token ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  return redis.call('HDEL', KEYS[1], 'token', 'lease', 'granted') > 0 and 1 or 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[2] * 1000))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
