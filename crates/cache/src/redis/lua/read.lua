-- Reads an entry, and takes the lease to load it where that is needed.
--
-- KEYS: 1 the entry
-- ARGV: 1 token of the lease, 2 lease in milliseconds, 3 how long ago its load may have begun in microseconds, or '' for any time,
--       4 by how many times its cost it is loaded early, 5 '1' to load it in any case
-- Answers: {0 nothing, 1 a value or 2 absent; 1 if the lease was taken; microseconds that another's lease still runs;
--           microseconds since the load began; microseconds left; microseconds that the load took; version; value}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local entry = redis.pcall('HMGET', KEYS[1], 'state', 'version', 'value', 'loaded', 'expires', 'cost', 'token', 'lease')
if entry.err then
  -- Somebody else's key. It is left alone, and the node loads without a lease.
  return { 0, 0, 0, 0, 0, 0, '', '' }
end
local state, age, left, cost = 0, 0, 0, 0
if entry[1] then
  age, left, cost = now - tonumber(entry[4]), tonumber(entry[5]) - now, tonumber(entry[6])
  if left > 0 and (ARGV[3] == '' or age < tonumber(ARGV[3])) then
    state = tonumber(entry[1])
  end
end
if ARGV[5] == '1' then
  state = 0
end
local leased, wait = 0, 0
if state == 0 or left < cost * tonumber(ARGV[4]) then
  local ends = tonumber(entry[8] or '0')
  if entry[7] and entry[7] ~= ARGV[1] and ends > now then
    wait = ends - now
  else
    redis.call('HSET', KEYS[1], 'token', ARGV[1], 'lease', string.format('%.0f', now + ARGV[2] * 1000),
      'granted', string.format('%.0f', now))
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    leased = 1
  end
end
return { state, leased, wait, math.max(age, 0), left, cost, entry[2] or '', state == 1 and entry[3] or '' }
