-- Where a topic stands, and what came since a position. Writes nothing for the topic.
--
-- KEYS  the epochs of the group of lanes, the topic's numbering, the topic's history
-- ARGV  1 a new epoch, should one be needed, 2 seconds to keep a numbering, 3 seconds until the next epoch,
--       4 epoch of the position, or empty where none is asked for, 5 its offset, 6 publications that are kept
-- Answers offset, 1 if everything since is there, epoch, and a list of offset, body, offset, body ...
%EPOCHS%
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
local state = redis.call('HMGET', KEYS[2], 'epoch', 'server', 'offset', 'before')
local epoch, offset, before = state[1], tonumber(state[3]), state[4] or ''
local since = tonumber(ARGV[5])
if not epoch or not offset or state[2] ~= server then
  -- Nothing was published yet. Whoever asks now can ask later what came since.
  epoch, before = epochs(KEYS[1], server, ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[2]))
  local recovered = since == 0 and ARGV[4] ~= '' and (ARGV[4] == epoch or ARGV[4] == before)
  return { 0, recovered and 1 or 0, epoch, {} }
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
-- Whoever was told offset 0 of the epoch before, when nothing had been published, counts on from there.
local of_this = ARGV[4] == epoch or (ARGV[4] ~= '' and ARGV[4] == before)
if not of_this or not since or since > offset or offset - since > tonumber(ARGV[6]) then
  return { offset, 0, epoch, {} }
end
local publications = {}
if since < offset then
  local entries = redis.call('XRANGE', KEYS[3], string.format('%d-0', since + 1), '+')
  if #entries ~= offset - since then
    return { offset, 0, epoch, {} }
  end
  for i, entry in ipairs(entries) do
    publications[2 * i - 1] = since + i
    publications[2 * i] = entry[2][2]
  end
end
return { offset, 1, epoch, publications }
