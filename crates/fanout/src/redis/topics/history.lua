-- Where a topic stands, and what came since a position. Writes nothing for the topic, unless to take its numbering over.
--
-- KEYS  1 the numbering of the group, 2 the one before, 3 its history, 4 the history before,
--       5 the topic's numbering by older nodes, 6 its history by older nodes
-- ARGV  1 a new epoch, should one be needed, 2 the topic's names as in a frame, 3 epoch of the position, or empty where none is asked for,
--       4 its offset, 5 publications that are kept, 6 whether to look at the run
-- Answers offset, 1 if everything since is there, epoch, and a list of publications as in a frame. In place of all that, 0 if this is
-- another run of the server.
%NUMBERS%
if ARGV[6] == '1' and is_other_run() then
  return { 0 }
end
local names, since, keep = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local held = call('HMGET', KEYS[1], '#server', '#epoch', '#before', '#began', names)
local epoch, before, is_new = renew(held, clock(), ARGV[1])
local value, is_older = not is_new and held[5], false
if not value then
  local earlier, known = find_earlier(before, { names })
  value = earlier[1]
  if value then
    call('HSET', KEYS[1], names, value)
  else
    value = find_older(KEYS[5])
    is_older = value
  end
  if not value then
    -- Nothing was published yet. Whoever asks now can ask later what came since.
    local recovered = since == 0 and (ARGV[3] == epoch or (known and ARGV[3] == before))
    return { 0, recovered and 1 or 0, epoch, {} }
  end
end
local offset, tag = unpack_bytes('<I6I2', value)
if #value > 8 then
  epoch, before = string.sub(value, 9, 24), string.sub(value, 25)
end
-- Whoever was told offset 0 of the epoch before, when nothing had been published, counts on from there.
local of_this = ARGV[3] == epoch or (ARGV[3] ~= '' and ARGV[3] == before)
if not of_this or not since or since > offset or offset - since > keep then
  return { offset, 0, epoch, {} }
end
local publications = {}
if is_older then
  call('EXPIRE', KEYS[5], DAY)
  local entries = call('XRANGE', KEYS[6], string.format('%.0f-0', since + 1), '+')
  if #entries ~= offset - since then
    return { offset, 0, epoch, {} }
  end
  for i, entry in ipairs(entries) do
    local body = entry[2][2]
    publications[i] = pack('<I6I2', since + i, tag) .. names .. pack('<I4', #body) .. body
  end
  return { offset, 1, epoch, publications }
end
-- A few hundred at a time, as Lua's stack takes no more than some thousands.
for first = since + 1, offset, 500 do
  local fields = {}
  for number = first, math.min(first + 499, offset) do
    fields[#fields + 1] = names .. pack('<I3', number % keep)
  end
  local found, earlier = call('HMGET', KEYS[3], unpack(fields)), nil
  for i = 1, #fields do
    local stamp = pack('<I6I2', first + i - 1, tag)
    local item = found[i]
    if not item or string.sub(item, 1, 8) ~= stamp then
      earlier = earlier or call('HMGET', KEYS[4], unpack(fields))
      item = earlier[i]
      if not item or string.sub(item, 1, 8) ~= stamp then
        return { offset, 0, epoch, {} }
      end
    end
    publications[#publications + 1] = item
  end
end
return { offset, 1, epoch, publications }
