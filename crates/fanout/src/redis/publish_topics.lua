-- Numbers publications of topics, keeps them, and publishes all in one frame. On a cluster all of one lane, hence of one slot.
--
-- KEYS  1 the epochs of this group of lanes, then for each publication: the topic's numbering, the topic's history
-- ARGV  1 the channel, 2 PUBLISH or SPUBLISH, 3 a new epoch, should one be needed, 4 publications to keep,
--       5 seconds to keep them, 6 seconds to keep a numbering, 7 seconds until the next epoch, 8 whether to look at the run,
--       9 what the frame begins with: mark, version and kind;
--       then for each publication: the names as in the frame, the body
-- Answers the number of publications, then for each: epoch, offset. An integer stands first, since clients may take
-- an array that begins with a text for a message of a channel.
--
-- A server that was started or promoted since may have lost the newest publications, and would give their numbers
-- again. So a numbering is bound to the run of one server, and this script is, too: the run stands in its text, so that
-- another run does not know it. To ask for the run each time would double the costs.
local server = '%RUN%'
if ARGV[8] == '1' then
  local info = redis.pcall('INFO', 'server')
  local found = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
  if found ~= server then
    return { 0 }
  end
end
local call = redis.call
%EPOCHS%
local count = (#KEYS - 1) / 2
local keep, seconds = tonumber(ARGV[4]), tonumber(ARGV[5])
local tags, frame, answer = {}, {}, { count }
local current, before
for i = 1, count do
  local topic, history = KEYS[2 * i], KEYS[2 * i + 1]
  local names, body = ARGV[8 + 2 * i], ARGV[9 + 2 * i]
  local state = call('HMGET', topic, 'epoch', 'server')
  local epoch, offset = state[1], 1
  if epoch and state[2] == server then
    offset = call('HINCRBY', topic, 'offset', 1)
  else
    if not current then
      current, before = epochs(KEYS[1], server, ARGV[3], tonumber(ARGV[7]), tonumber(ARGV[6]))
    end
    epoch = current
    call('DEL', history)
    call('HSET', topic, 'epoch', epoch, 'before', before, 'offset', 1, 'server', server)
  end
  call('EXPIRE', topic, ARGV[6])
  if keep > 0 and seconds > 0 then
    -- Some more may stay, which is cheaper; who reads counts exactly.
    call('XADD', history, 'MAXLEN', '~', keep, string.format('%d-1', offset), 'body', body)
    call('EXPIRE', history, seconds)
  end
  tags[i] = struct.pack('<I2', tonumber(string.sub(epoch, 1, 4), 16) or 0)
  frame[3 * i - 2] = struct.pack('<I8', offset)
  frame[3 * i - 1] = names
  frame[3 * i] = struct.pack('<I4', #body) .. body
  answer[2 * i] = epoch
  answer[2 * i + 1] = offset
end
local header = ARGV[9] .. string.char(1 + 2 * count) .. '\0' .. table.concat(tags) .. struct.pack('<I4', count)
call(ARGV[2], ARGV[1], header .. table.concat(frame))
return answer
