-- Makes new sessions, any number at a time.
--
-- KEYS: per session: the session; then its user's and its tenant's index, if they are on the same server
-- ARGV: 1 node, 2 resume window, 3 lifetime, 4 when the index entries expire, 5 number of keys per session, 1 or 3,
--       then per session: session, tenant, user, now, the stamp to be above, how long before this command was sent the attach began
--       (microseconds), when it began by this server's clock at the latest as far as the node knows (0 when it does not)
-- Answers: a stamp per session
local node, window, lifetime, expires, keys = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local prolonged, stamps = {}, {}
for i = 0, #KEYS / keys - 1 do
  local key, argument = i * keys, 5 + i * 7
  local now = ARGV[argument + 4]
  -- A command that was long under way is no later attach for that. None takes a minute: then the node is wrong about this clock.
  local began, latest = clock - ARGV[argument + 6], tonumber(ARGV[argument + 7])
  if latest > clock - 60000000 then
    began = math.min(began, latest)
  end
  local stamp = string.format('%.0f', math.max(began, ARGV[argument + 5] + 1))
  redis.call('DEL', KEYS[key + 1])
  redis.call('HSET', KEYS[key + 1], 'tenant', ARGV[argument + 2], 'user', ARGV[argument + 3], 'node', node,
    'created_at', now, 'attached_at', now, 'window', window, 'stamp', stamp, 'stamped_at', now)
  redis.call('PEXPIRE', KEYS[key + 1], lifetime)
  for index = key + 2, key + keys do
    redis.call('ZADD', KEYS[index], expires, ARGV[argument + 1])
    -- Many sessions are of one tenant.
    if not prolonged[KEYS[index]] then
      prolonged[KEYS[index]] = true
      redis.call('PEXPIRE', KEYS[index], lifetime)
    end
  end
  stamps[i + 1] = stamp
end
return stamps
