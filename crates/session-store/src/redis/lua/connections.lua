-- Sets how many connections of a tenant a node holds, if the nodes that live have no more than a limit then. What each node said
-- last is counted under one lock, which is this script, so that no two nodes take the same place.
--
-- KEYS: 1 the tenant's connections by node
-- ARGV: 1 node, 2 its connections, 3 the limit, or -1 for none, 4 lifetime,
--       5 nodes as '|NAME=0' when living, '|NAME=LAST_BEAT' when dead, with a '|' at the end
-- Answers: 1 set, 0 too many
local count, max = tonumber(ARGV[2]), tonumber(ARGV[3])
if max >= 0 then
  local sum = count
  local held = redis.call('HGETALL', KEYS[1])
  for i = 1, #held, 2 do
    local node = held[i]
    if node ~= ARGV[1] then
      local _, stop = string.find(ARGV[5], '|' .. node .. '=', 1, true)
      local last = stop and tonumber(string.match(ARGV[5], '^%d+', stop + 1)) or 0
      -- One that is not in the list may just have come.
      if last == 0 then
        sum = sum + tonumber(held[i + 1])
      else
        redis.call('HDEL', KEYS[1], node)
      end
    end
  end
  if sum > max then
    return 0
  end
end
if count > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
