-- Where a topic stands, and what came since a position.
--
-- KEYS  the topic's numbering, the topic's history
-- ARGV  1 epoch for a numbering that begins, 2 seconds to keep a numbering,
--       3 epoch of the position, or empty where none is asked for, 4 its offset, 5 publications that are kept
-- Answers offset, 1 if everything since is there, epoch, and a list of offset, body, offset, body ...
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
local state = redis.call('HMGET', KEYS[1], 'epoch', 'server', 'offset')
local epoch, offset = state[1], tonumber(state[3])
if not epoch or not offset or state[2] ~= server then
  -- The numbering begins here, so that whoever asks now can ask later what came since.
  epoch, offset = ARGV[1], 0
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', 0, 'server', server)
  redis.call('DEL', KEYS[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local since = tonumber(ARGV[4])
if ARGV[3] ~= epoch or not since or since > offset or offset - since > tonumber(ARGV[5]) then
  return { offset, 0, epoch, {} }
end
local publications = {}
if since < offset then
  local entries = redis.call('XRANGE', KEYS[2], string.format('%d-0', since + 1), '+')
  if #entries ~= offset - since then
    return { offset, 0, epoch, {} }
  end
  for i, entry in ipairs(entries) do
    publications[2 * i - 1] = since + i
    publications[2 * i] = entry[2][2]
  end
end
return { offset, 1, epoch, publications }
