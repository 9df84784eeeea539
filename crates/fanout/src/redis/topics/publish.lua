-- Numbers publications of topics, keeps them, and publishes all in one frame. On a cluster all are of one partition, hence of one slot.
--
-- KEYS  1 the numbering of the group, 2 the one before, 3 its history, 4 the history before, 5 epochs of older nodes
-- ARGV  1 the channel, 2 PUBLISH or SPUBLISH, 3 the channel of older nodes, 4 NUMSUB or SHARDNUMSUB, 5 a new epoch, should one be needed,
--       6 publications to keep, 7 seconds to keep them, 8 what to look at beforehand: 0 nothing, 1 the time and older nodes, 2 the run, too,
--       9 what the frame begins with,
--       10 the prefix of keys, 11 the partition of each publication (a byte each), 12 whether a topic comes more than once;
--       then the names of each publication's topic as in the frame, then the length and body of each
-- Answers the number of publications, then an epoch, or the epochs of all one after the other, then the stamps of all. The number is 0 if
-- this is another run of the server, and -1 if a node of an older version is subscribed. An integer stands first, since clients may take
-- an array that begins with a text for a message of a channel.
%NUMBERS%
local now
if ARGV[8] ~= '0' then
  if ARGV[8] == '2' and is_other_run() then
    return { 0 }
  end
  local subscribed = redis.pcall('PUBSUB', ARGV[4], ARGV[3], ARGV[1])
  if subscribed[4] and tonumber(subscribed[2]) > tonumber(subscribed[4]) then
    return { -1 }
  end
  now = clock()
end
local HEAD = 12
local count = (#ARGV - HEAD) / 2
local keep, seconds = tonumber(ARGV[6]), tonumber(ARGV[7])
-- When the present hash of publications began.
local history = '#history:' .. keep .. ':' .. seconds
local values = call('HMGET', KEYS[1], '#server', '#epoch', '#before', '#began', history, unpack(ARGV, HEAD + 1, HEAD + count))
local FIXED = 5
local epoch, before, is_new = renew(values, now, ARGV[5])
if is_new then
  values = {}
end
local tag, born = tag_of(epoch), ''

-- Fills in what the present hash lacks.
local function find_missing()
  local missing, names = {}, {}
  for i = 1, count do
    if not values[FIXED + i] then
      missing[#missing + 1] = i
      names[#names + 1] = ARGV[HEAD + i]
    end
  end
  local found, known = find_earlier(before, names)
  for n, i in ipairs(missing) do
    values[FIXED + i] = found[n]
    if not found[n] then
      local tenant, topic = unpack_bytes('<I2c0I2c0', names[n])
      local place = ':{' .. string.byte(ARGV[11], i) .. '}:' .. tenant .. '/' .. topic
      values[FIXED + i] = find_older(ARGV[10] .. ':topic' .. place)
      if values[FIXED + i] then
        -- Should an older node come back it begins a numbering of its own, under a new epoch.
        call('DEL', ARGV[10] .. ':topic' .. place, ARGV[10] .. ':history' .. place, KEYS[5])
      end
    end
  end
  -- What a numbering that begins now adds to its stamp.
  born = (known or before == '') and '' or epoch
end

-- The last stamps, if a topic may come again.
local latest = ARGV[12] == '1' and {}
local has_looked = false
local numbers, kept, stamps, items, others = {}, {}, {}, {}, nil
local keeps = keep > 0 and seconds > 0
-- Locals are read faster.
local arguments, bodies = ARGV, HEAD + count
for i = 1, count do
  local names = arguments[HEAD + i]
  local value = latest and latest[names] or values[FIXED + i]
  local offset, stamp
  if value and #value == 8 then
    offset = unpack_bytes('<I6', value) + 1
    stamp = pack('<I6I2', offset, tag)
    value = stamp
  else
    if not value and not has_looked then
      has_looked = true
      find_missing()
      value = values[FIXED + i]
    end
    local own, suffix = tag, born
    offset = 1
    if value then
      offset, own = unpack_bytes('<I6I2', value)
      offset, suffix = offset + 1, string.sub(value, 9)
    end
    stamp = pack('<I6I2', offset, own)
    value = stamp .. suffix
    if suffix ~= '' then
      others = others or {}
      others[i] = string.sub(suffix, 1, 16)
    end
  end
  if latest then
    latest[names] = value
  end
  local item = stamp .. names .. arguments[bodies + i]
  stamps[i], items[i] = stamp, item
  numbers[2 * i - 1], numbers[2 * i] = names, value
  if keeps then
    kept[2 * i - 1], kept[2 * i] = names .. pack('<I3', offset % keep), item
  end
end
call('HSET', KEYS[1], unpack(numbers))
if keeps then
  -- As with the numbering, a hash of publications serves for a while, and then becomes the one before. Each is kept for `seconds` at
  -- least. None is taken out alone.
  local began = tonumber(values[FIXED] or call('HGET', KEYS[2], history) or nil)
  local ended = not began or (now and is_over(began, now, seconds))
  if ended then
    began = now or clock()
    call('UNLINK', KEYS[4])
    if call('EXISTS', KEYS[3]) == 1 then
      call('RENAME', KEYS[3], KEYS[4])
      call('EXPIRE', KEYS[4], 2 * seconds)
    end
  end
  call('HSET', KEYS[3], unpack(kept))
  if ended or not values[FIXED] then
    call('HSET', KEYS[1], history, began)
    call('EXPIRE', KEYS[3], 3 * seconds)
  end
end
-- The channels to publish to.
call(ARGV[2], ARGV[1], ARGV[9] .. pack('<I4', count) .. table.concat(items))
local epochs = epoch
if others then
  for i = 1, count do
    others[i] = others[i] or epoch
  end
  epochs = table.concat(others)
end
return { count, epochs, table.concat(stamps) }
