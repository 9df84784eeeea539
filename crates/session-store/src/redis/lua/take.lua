-- Takes one from an allowance: GCRA (ITU-T I.371) in whole microseconds of the server's clock. Calculates as gcra.rs does.
--
-- KEYS: 1 when the next cell would be due
-- ARGV: 1 interval of cells in microseconds, 2 tolerance in microseconds
-- Answers: 0 when allowed, else microseconds until it will be
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = tonumber(redis.call('GET', KEYS[1]) or now)
due = math.min(math.max(due, now), now + tolerance + interval)
local early = due - now - tolerance
if early > 0 then
  return early
end
due = due + interval
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', string.format('%.0f', math.ceil((due - now) / 1000)))
return 0
