-- Writes an attached session again, unless an attach with a higher stamp holds it or it was ended.
--
-- KEYS: 1 the session, then the indexes that hold it as far as they are on the same server
-- ARGV: 1 session, 2 tenant, 3 user, 4 node, 5 made at, 6 now, 7 resume window, 8 lifetime, 9 when the index entries expire,
--       10 stamp, then its names, each with the conversation's number or ''
-- Answers: {1, node that an earlier attach held it on or ''} written, {0, node} held by a later attach, {2, node} ended
local there = redis.call('HMGET', KEYS[1], 'node', 'tenant', 'user', 'ended', 'dropped_at', 'attached_at', 'stamp',
  'stamped_at', 'claimed', 'previous', 'earlier')
local stamp, previous, earlier = tonumber(ARGV[10]), '', ''
if there[1] then
  if there[2] ~= ARGV[2] or there[3] ~= ARGV[3] then
    return { 0, there[1] }
  end
  if there[4] then
    return { 2, there[1] }
  end
  -- A node of an older version attaches without a stamp: its time stands for it.
  local held = tonumber(there[6]) * 1000
  if there[7] and there[8] == there[6] then
    held = tonumber(there[7])
  end
  if held > stamp or (held == stamp and there[1] > ARGV[4]) then
    return { 0, there[1] }
  end
  if there[1] ~= ARGV[4] then
    previous = there[5] and '' or there[1]
    earlier = previous
  else
    if held == stamp then
      previous = there[10] or ''
    end
    -- The node may not have got the answer by which it would have learned of the earlier one.
    earlier = there[11] or previous
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'tenant', ARGV[2], 'user', ARGV[3], 'node', ARGV[4], 'created_at', ARGV[5],
  'attached_at', ARGV[6], 'window', ARGV[7], 'stamp', ARGV[10], 'stamped_at', ARGV[6])
if there[9] then
  redis.call('HSET', KEYS[1], 'claimed', there[9])
end
if previous ~= '' then
  redis.call('HSET', KEYS[1], 'previous', previous)
end
if earlier ~= '' then
  redis.call('HSET', KEYS[1], 'earlier', earlier)
end
for i = 11, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], ARGV[9], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[8])
end
return { 1, earlier }
