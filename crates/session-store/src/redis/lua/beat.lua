-- Renews a node's lease, and answers who lives and who died lately. Time is the server's, one clock for all nodes.
--
-- KEYS: 1 the node's instance, 2 the instances by last beat, 3 when the store was born; all in one slot
-- ARGV: 1 the node ('' only reads), 2 its record, 3 lease, 4 for how long the dead are remembered, 5 lifetime of the birth,
--       6 prefix of instances, 7 '1' when the living nodes' records are wanted
-- Answers: {start of this node's lease, now, birth, then per node: name, last beat, whether it lives, record}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = 0
if ARGV[1] ~= '' then
  since = redis.call('HGET', KEYS[1], 'since')
  if not since then
    since = now
  end
  redis.call('HSET', KEYS[1], 'record', ARGV[2], 'since', since)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
redis.call('SET', KEYS[3], now, 'NX')
redis.call('PEXPIRE', KEYS[3], ARGV[5])
local answer = { tonumber(since), now, tonumber(redis.call('GET', KEYS[3])) }
local nodes = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #nodes, 2 do
  local instance = ARGV[6] .. nodes[i]
  local record = ''
  local lives = redis.call('EXISTS', instance)
  if lives == 1 and ARGV[7] == '1' then
    record = redis.call('HGET', instance, 'record')
  end
  answer[#answer + 1] = nodes[i]
  answer[#answer + 1] = tonumber(nodes[i + 1])
  answer[#answer + 1] = lives
  answer[#answer + 1] = record
end
return answer
