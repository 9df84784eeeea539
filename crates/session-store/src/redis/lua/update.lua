-- Notes what a session joined, left, subscribed to. Writes nothing for one that is not there, so that no key is left over.
--
-- KEYS: 1 the session
-- ARGV: 1 lifetime, 2 most fields, then '+' or '-', a name, and the conversation's number or ''
local session = redis.call('HMGET', KEYS[1], 'node', 'dropped_at', 'ended')
if not session[1] or session[3] then
  return 0
end
local full = redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2])
for i = 3, #ARGV, 3 do
  local name, number = ARGV[i + 1], ARGV[i + 2]
  if ARGV[i] == '-' then
    -- Another conversation of the same name may have been joined since.
    local there = redis.call('HGET', KEYS[1], name)
    if number == '' or there == '' or there == number then
      redis.call('HDEL', KEYS[1], name)
    end
  elseif not full then
    redis.call('HSET', KEYS[1], name, number)
  end
end
if not session[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
