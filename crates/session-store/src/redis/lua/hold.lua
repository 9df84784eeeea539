-- Completes the attach of an old session: the node holds it, unless an attach with a higher stamp does.
--
-- KEYS: 1 the session, then the indexes that hold it as far as they are on the same server
-- ARGV: 1 session, 2 tenant, 3 user, 4 node, 5 stamp, 6 made at, 7 now, 8 resume window, 9 lifetime,
--       10 when the index entries expire
-- Answers: {1, node that held it until now or ''} held, {0} superseded, {3} refused
local there = redis.call('HMGET', KEYS[1], 'node', 'tenant', 'user', 'ended', 'dropped_at', 'attached_at', 'stamp',
  'stamped_at', 'previous')
local stamp, previous = tonumber(ARGV[5]), ''
if there[1] then
  if there[2] ~= ARGV[2] or there[3] ~= ARGV[3] or there[4] then
    return { 3 }
  end
  -- A node of an older version attaches without a stamp: its time stands for it.
  local held = tonumber(there[6]) * 1000
  if there[7] and there[8] == there[6] then
    held = tonumber(there[7])
  end
  if held > stamp or (held == stamp and there[1] > ARGV[4]) then
    return { 0 }
  end
  if held == stamp and there[1] == ARGV[4] then
    -- The same command, sent again after the connection broke.
    previous = there[9] or ''
  elseif not there[5] then
    previous = there[1]
  end
else
  redis.call('HSET', KEYS[1], 'tenant', ARGV[2], 'user', ARGV[3], 'created_at', ARGV[6])
end
redis.call('HSET', KEYS[1], 'node', ARGV[4], 'attached_at', ARGV[7], 'window', ARGV[8], 'stamp', ARGV[5],
  'stamped_at', ARGV[7], 'previous', previous)
redis.call('HDEL', KEYS[1], 'dropped_at')
-- The node that `restore` answers with: later attaches on this node don't change it.
if there[1] and there[1] ~= ARGV[4] then
  redis.call('HSET', KEYS[1], 'earlier', previous)
end
redis.call('PEXPIRE', KEYS[1], ARGV[9])
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], ARGV[10], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[9])
end
return { 1, previous }
