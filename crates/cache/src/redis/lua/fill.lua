-- Writes an entry under the lease that a read has given, unless it is older than what is known here.
--
-- KEYS: 1 the entry
-- ARGV: 1 token of the lease, 2 version, 3 '1' a value or '2' absent, 4 lifetime in milliseconds, 5 microseconds that the load took, 6 value
-- Answers: 1 written, 0 the lease is over or was broken by a change, -1 no room, -2 older than what is known
local entry = redis.pcall('HMGET', KEYS[1], 'version', 'floor', 'token', 'granted')
if entry.err then
  return -1
end
local version, floor = entry[1] or '', entry[2] or ''
local holds = entry[3] == ARGV[1]
local outcome = 1
if ARGV[3] == '1' and (ARGV[2] < version or ARGV[2] < floor) then
  outcome = -2
elseif not holds then
  outcome = 0
else
  local time = redis.call('TIME')
  local expires = string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[4] * 1000)
  -- The load began after the lease was granted. That time holds even if this command was held up.
  -- The version of a deleted value is kept, so that it does not come back.
  local written = redis.pcall('HSET', KEYS[1], 'state', ARGV[3], 'version', ARGV[3] == '1' and ARGV[2] or version,
    'value', ARGV[6], 'loaded', entry[4], 'expires', expires, 'cost', ARGV[5])
  if type(written) == 'table' and written.err then
    outcome = -1
  elseif redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
end
if holds then
  redis.call('HDEL', KEYS[1], 'token', 'lease', 'granted')
end
return outcome
