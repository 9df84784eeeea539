-- Notes that a session's socket dropped, if it is still attached to this node; the first time counts.
--
-- KEYS: 1 the session
-- ARGV: 1 node, 2 now, 3 how much longer than its window it is kept
-- Answers: {0}, or {1, tenant, user, for how long it is kept}
local session = redis.call('HMGET', KEYS[1], 'node', 'dropped_at', 'ended', 'window', 'tenant', 'user')
if session[1] ~= ARGV[1] or session[2] or session[3] then
  return { 0 }
end
local keep = tonumber(session[4]) + ARGV[3]
redis.call('HSET', KEYS[1], 'dropped_at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep))
return { 1, session[5], session[6], keep }
