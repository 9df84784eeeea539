-- Removes presence entries of nodes that are long dead, unless they changed meanwhile.
--
-- KEYS: 1 a conversation's presence
-- ARGV: pairs of a field and the value that it had
-- Answers: how many were removed
local removed = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    removed = removed + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return removed
