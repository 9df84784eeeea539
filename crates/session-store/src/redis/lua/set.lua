-- Sets with how many sessions users are in conversations on a node.
--
-- KEYS: the conversations' presence
-- ARGV: 1 lifetime, then per conversation: number of changes, then for each 'NODE/USER' and a number, 0 to remove it
-- Answers: how many conversations were written
local at, written = 2, 0
for i = 1, #KEYS do
  local first, last = at + 1, at + 2 * ARGV[at]
  at = last + 1
  local failed = false
  for change = first, last, 2 do
    local answer
    if ARGV[change + 1] == '0' then
      answer = redis.pcall('HDEL', KEYS[i], ARGV[change])
    else
      answer = redis.pcall('HSET', KEYS[i], ARGV[change], ARGV[change + 1])
    end
    -- A key that holds something else fails alone.
    failed = failed or type(answer) == 'table' and answer.err ~= nil
  end
  if not failed then
    written = written + 1
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
  end
end
return written
