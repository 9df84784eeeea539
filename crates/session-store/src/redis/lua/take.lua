-- Takes one from an allowance: GCRA (ITU-T I.371) in whole microseconds of the server's clock, and a line for those who are refused.
-- Calculates as `Allowance` in crates/rate does.
--
-- KEYS: 1 when the next cell would be due, 2 the last place in the line
-- ARGV: 1 interval of cells in microseconds, 2 tolerance in microseconds
-- Answers: 0 when allowed, else microseconds until the place that was given
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local latest = now + tolerance + interval
local due = tonumber(redis.call('GET', KEYS[1]) or now)
due = math.min(math.max(due, now), latest)
local function keep(key, at)
  redis.call('SET', key, string.format('%.0f', at), 'PX', string.format('%.0f', math.ceil((at - now) / 1000)))
end
local early = due - now - tolerance
if early > 0 then
  local place = math.min(tonumber(redis.call('GET', KEYS[2]) or now), latest) + interval
  place = math.min(math.max(place, now + early), latest)
  keep(KEYS[2], place)
  return place - now
end
keep(KEYS[1], due + interval)
return 0
