-- Notes that a session's socket dropped, if that very attach still holds the session; the first time counts.
--
-- KEYS: 1 the session
-- ARGV: 1 node, 2 now, 3 how much longer than its window it is kept,
--       4 stamp of the attach, 0 for the one that made the session, whose stamp its client never got
-- Answers: {0}, or {1, tenant, user, for how long it is kept}
local session = redis.call('HMGET', KEYS[1], 'node', 'dropped_at', 'ended', 'window', 'tenant', 'user', 'attached_at', 'stamp',
  'stamped_at')
if session[1] ~= ARGV[1] or session[2] or session[3] then
  return { 0 }
end
if ARGV[4] ~= '0' and session[8] and session[9] == session[7] and tonumber(session[8]) ~= tonumber(ARGV[4]) then
  return { 0 }
end
local keep = tonumber(session[4]) + ARGV[3]
redis.call('HSET', KEYS[1], 'dropped_at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep))
return { 1, session[5], session[6], keep }
