-- Ends a session for good, or only looks whether there is one to end.
--
-- KEYS: 1 the session
-- ARGV: 1 tenant, 2 now, 3 for how long that is remembered, 4 'look' to write nothing
-- Answers: {0} when there is none, or {1, node when attached or '', user, when it was attached}
local session = redis.call('HMGET', KEYS[1], 'tenant', 'user', 'node', 'dropped_at', 'window', 'attached_at')
if session[1] ~= ARGV[1] then
  return { 0 }
end
if session[4] and ARGV[2] - session[4] > tonumber(session[5]) then
  return { 0 }
end
if ARGV[4] ~= 'look' then
  redis.call('HSET', KEYS[1], 'ended', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local node = session[3]
if session[4] then
  node = ''
end
return { 1, node, session[2], session[6] }
