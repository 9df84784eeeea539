-- The numbering of the topics of one group of partitions: a hash with a field for each topic, which all scripts share.
--
-- A topic's value begins with a stamp: its last offset (6 bytes) and the tag of its epoch (2 bytes). If the numbering began under an
-- earlier epoch, or does not count on the epoch before, that epoch and the one before it follow (16 bytes each; the second may be missing). The fields of the whole hash begin
-- with '#', as no topic's field does: there the second byte belongs to a length, and names are short.
--
-- A hash serves for a day, and has one epoch. Then it becomes the hash before, where topics that the present one lacks are looked up and
-- taken over. So a numbering outlives its last use by a day at least, and no two numberings of a topic share an epoch. Nothing is written
-- for a topic that nobody has published on: whoever asks is told offset 0 of the present epoch. A numbering that begins in the next
-- hash knows the epoch before, so whoever was told that position gets what came since.
--
-- A server that was started or promoted since may have lost the newest publications, and would give their numbers again. So the hash is
-- bound to the run of one server, and the scripts are, too: the run stands in their text, so that another run does not know them. To ask
-- for the run each time would double the costs.
local call, pack, unpack_bytes = redis.call, struct.pack, struct.unpack
local server = '%RUN%'
local DAY = 86400
-- Redis keeps small hashes as lists, and searches them for each field. A value of more than 64 bytes makes it a table.
local NOTE = 'Redis keeps a table of these fields because this value is long, and finds each at once'

local function is_other_run()
  local info = redis.pcall('INFO', 'server')
  local found = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
  return found ~= server
end

local function tag_of(epoch)
  return tonumber(string.sub(epoch, 1, 4), 16) or 0
end

local function clock()
  return tonumber(call('TIME')[1])
end

-- Whether something has lasted for its time. A clock that was set back would keep it for too long.
local function is_over(began, now, seconds)
  return now - began >= seconds or now < began
end

-- Begins another hash with the epoch `fresh` unless the present one can go on. `held` is what the present one says of its server,
-- epoch, epoch before and beginning; `now` is nothing if its time is not to be looked at. Returns the epoch, the one before, and whether
-- another hash has begun.
local function renew(held, now, fresh)
  local epoch, before, began = held[2], held[3], tonumber(held[4])
  local known = held[1] == server and epoch and before and began
  if known and not (now and is_over(began, now, DAY)) then
    return epoch, before, false
  end
  if known then
    call('UNLINK', KEYS[2])
    call('RENAME', KEYS[1], KEYS[2])
  else
    call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
  end
  before = known and epoch or ''
  call('HSET', KEYS[1], '#server', server, '#epoch', fresh, '#before', before, '#began', now or clock(),
    '#note', NOTE)
  call('EXPIRE', KEYS[1], 2 * DAY)
  return fresh, before, true
end

-- Looks topics up in the hash before. Returns their values, and whether a numbering that begins now may count on the epoch before: not if
-- that hash is missing, since a numbering of the topic may have been lost with it.
local function find_earlier(before, names)
  local found = call('HMGET', KEYS[2], '#epoch', '#before', unpack(names))
  local values, known = {}, before ~= '' and found[1] == before
  for i = 1, #names do
    local value = found[i + 2]
    if known and value then
      values[i] = #value > 8 and value or value .. before .. (found[2] or '')
    end
  end
  return values, known
end

-- Returns the value of a numbering that nodes of an older version keep, or nothing.
local function find_older(key)
  local held = call('HMGET', key, 'epoch', 'server', 'offset', 'before')
  local epoch, offset = held[1], tonumber(held[3])
  if epoch and #epoch == 16 and offset and held[2] == server then
    return pack('<I6I2', offset, tag_of(epoch)) .. epoch .. (held[4] or '')
  end
end
