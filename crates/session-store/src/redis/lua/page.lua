-- A page of an index of sessions, in the order of when the entries expire.
--
-- KEYS: 1 the index
-- ARGV: 1 now, 2 how many, 3 after which expiry, or '' from the start, 4 after which session
-- Answers: {how many, session, expiry, session, expiry …}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local from = 0
if ARGV[3] ~= '' then
  -- Where the entry stood tells its rank, whether it still stands there or not.
  local there = redis.call('ZSCORE', KEYS[1], ARGV[4])
  local lifetime = redis.call('PTTL', KEYS[1])
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[4])
  from = redis.call('ZRANK', KEYS[1], ARGV[4])
  if not there then
    redis.call('ZREM', KEYS[1], ARGV[4])
  else
    redis.call('ZADD', KEYS[1], there, ARGV[4])
    if tonumber(there) <= tonumber(ARGV[3]) then
      from = from + 1
    end
  end
  if lifetime < 0 then
    redis.call('DEL', KEYS[1])
  end
end
local entries = redis.call('ZRANGE', KEYS[1], from, from + ARGV[2] - 1, 'WITHSCORES')
local answer = { #entries / 2 }
for i = 1, #entries do
  answer[#answer + 1] = entries[i]
end
return answer
