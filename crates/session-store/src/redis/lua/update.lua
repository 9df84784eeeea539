-- Notes what sessions joined, left, subscribed to. Writes nothing for one that is not there, so that no key is left over.
--
-- KEYS: the sessions
-- ARGV: 1 lifetime, 2 most fields, 3 now, then per session: number of changes, then for each '+' or '-', a name, and the
--       conversation's number or ''
-- Answers: how many sessions were there
local lifetime, most, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- How old an attach is that a change prolongs, a small part of the lifetime: most joins follow a connect.
local fresh = 3600000
local at, there = 4, 0
for i = 1, #KEYS do
  local first, last = at + 1, at + 3 * ARGV[at]
  at = last + 1
  -- A key that holds something else fails alone.
  local session = redis.pcall('HMGET', KEYS[i], 'node', 'dropped_at', 'ended', 'attached_at')
  if not session.err and session[1] and not session[3] then
    there = there + 1
    local full = redis.call('HLEN', KEYS[i]) >= most
    for change = first, last, 3 do
      local name, number = ARGV[change + 1], ARGV[change + 2]
      if ARGV[change] == '-' then
        -- Another conversation of the same name may have been joined since.
        local known = redis.call('HGET', KEYS[i], name)
        if number == '' or known == '' or known == number then
          redis.call('HDEL', KEYS[i], name)
        end
      elseif not full then
        redis.call('HSET', KEYS[i], name, number)
      end
    end
    if not session[2] and now - tonumber(session[4] or 0) > fresh then
      redis.call('PEXPIRE', KEYS[i], lifetime)
    end
  end
end
return there
