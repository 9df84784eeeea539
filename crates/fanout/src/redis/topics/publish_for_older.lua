-- Does what `publish.lua` does while nodes of an older version are there, which know other keys and another frame: each topic has a hash
-- with its numbering and a stream with its history. Numberings that newer nodes keep go on in these keys.
--
-- KEYS  1 the epochs of this group of partitions, 2 to 5 as in `publish.lua`, then for each publication: the topic's numbering, its history
-- ARGV  1 the channel of older nodes, 2 PUBLISH or SPUBLISH, 3 a new epoch, should one be needed, 4 publications to keep,
--       5 seconds to keep them, 6 seconds until the next epoch, 7 whether to look at the run,
--       8 what the frame begins with: mark, version and kind;
--       then the names of each publication's topic as in the frame, then the body of each
-- Answers as `publish.lua` does.
%NUMBERS%
%EPOCHS%
if ARGV[7] == '1' and is_other_run() then
  return { 0 }
end
local HEAD = 8
local count = (#ARGV - HEAD) / 2
local keep, seconds = tonumber(ARGV[4]), tonumber(ARGV[5])

-- Moves a numbering of newer nodes to the keys that older nodes know, unless these have begun one since.
local function give_back(names, topic)
  local held = call('HMGET', KEYS[2], '#server', '#epoch', '#before', names)
  local value, epoch, before = held[4], held[2], held[3]
  if held[1] ~= server then
    return
  elseif not value then
    value, epoch = find_earlier(before, { names })[1], nil
  end
  if not value then
    return
  end
  if #value > 8 then
    epoch, before = string.sub(value, 9, 24), string.sub(value, 25)
  end
  call('HDEL', KEYS[2], names)
  call('HDEL', KEYS[3], names)
  if call('HGET', topic, 'server') ~= server then
    call('HSET', topic, 'epoch', epoch, 'before', before, 'offset', (unpack_bytes('<I6', value)), 'server', server)
  end
end

local tags, frame, stamps, epoch_list = {}, {}, {}, {}
local current, before
for i = 1, count do
  local topic, history = KEYS[2 * i + 4], KEYS[2 * i + 5]
  local names, body = ARGV[HEAD + i], ARGV[HEAD + count + i]
  give_back(names, topic)
  local state = call('HMGET', topic, 'epoch', 'server')
  local epoch, offset = state[1], 1
  if epoch and state[2] == server then
    offset = call('HINCRBY', topic, 'offset', 1)
  else
    if not current then
      current, before = epochs(KEYS[1], server, ARGV[3], tonumber(ARGV[6]), DAY)
    end
    epoch = current
    call('DEL', history)
    call('HSET', topic, 'epoch', epoch, 'before', before, 'offset', 1, 'server', server)
  end
  call('EXPIRE', topic, DAY)
  if keep > 0 and seconds > 0 then
    call('XADD', history, 'MAXLEN', '~', keep, string.format('%.0f-1', offset), 'body', body)
    call('EXPIRE', history, seconds)
  end
  tags[i] = pack('<I2', tag_of(epoch))
  stamps[i] = pack('<I6I2', offset, tag_of(epoch))
  epoch_list[i] = epoch
  frame[i] = pack('<I8', offset) .. names .. pack('<I4', #body) .. body
end
local header = ARGV[8] .. string.char(1 + 2 * count) .. '\0' .. table.concat(tags) .. pack('<I4', count)
call(ARGV[2], ARGV[1], header .. table.concat(frame))
return { count, table.concat(epoch_list), table.concat(stamps) }
