-- Makes a session, or attaches one to a node; of two nodes that do so at the same time one comes last and is told of the other.
--
-- KEYS: 1 the session, then the indexes that hold it as far as they are on the same server
-- ARGV: 1 'new', 'resume', or 'rebuild' when the store is known to have been lost, 2 session, 3 tenant, 4 user, 5 node,
--       6 now, 7 resume window, 8 a word for this attempt, 9 lifetime, 10 when the index entries expire,
--       11 nodes as '|NAME=0' when living, '|NAME=LAST_BEAT' when dead, with a '|' at the end
--       12 a node looked up in particular, 13 its last beat, 0 when living, -1 when never heard of
-- Answers: {0} new; {1, previous node or '', made at, its names} resumed; {2} rebuilt; {3} refused;
--          {4} there is no such session; {5, node} whether this node lives has to be looked up
local now, window = tonumber(ARGV[6]), tonumber(ARGV[7])

local function enter()
  for i = 2, #KEYS do
    redis.call('ZADD', KEYS[i], ARGV[10], ARGV[2])
    redis.call('PEXPIRE', KEYS[i], ARGV[9])
  end
end

local function make()
  redis.call('HSET', KEYS[1], 'tenant', ARGV[3], 'user', ARGV[4], 'node', ARGV[5], 'created_at', ARGV[6],
    'attached_at', ARGV[6], 'window', ARGV[7], 'attempt', ARGV[8], 'previous', '')
  redis.call('PEXPIRE', KEYS[1], ARGV[9])
  enter()
end

if ARGV[1] == 'new' then
  redis.call('DEL', KEYS[1])
  make()
  return { 0 }
end

local record = redis.call('HGETALL', KEYS[1])
if #record == 0 then
  if ARGV[1] == 'resume' then
    return { 4 }
  end
  make()
  return { 2 }
end
local session, names = {}, {}
for i = 1, #record, 2 do
  local kind = string.sub(record[i], 1, 3)
  if kind == 'in:' or kind == 'on:' then
    names[#names + 1] = record[i]
  else
    session[record[i]] = record[i + 1]
  end
end
if session.tenant ~= ARGV[3] or session.user ~= ARGV[4] or session.ended then
  return { 3 }
end

local previous = ''
if session.attempt == ARGV[8] then
  -- The same command, sent again after the connection broke.
  previous = session.previous
elseif session.dropped_at then
  if now - session.dropped_at > window then
    return { 3 }
  end
elseif session.node == ARGV[5] then
  -- The node that asks lives.
  previous = session.node
else
  local last
  if session.node == ARGV[12] then
    last = tonumber(ARGV[13])
  else
    local _, stop = string.find(ARGV[11], '|' .. session.node .. '=', 1, true)
    if not stop then
      return { 5, session.node }
    end
    last = tonumber(string.match(ARGV[11], '^%d+', stop + 1))
  end
  if last == 0 then
    previous = session.node
  elseif now - math.max(last, tonumber(session.attached_at)) > window then
    -- Who attached was alive then.
    return { 3 }
  end
end
redis.call('HSET', KEYS[1], 'node', ARGV[5], 'attached_at', ARGV[6], 'window', ARGV[7], 'attempt', ARGV[8],
  'previous', previous)
redis.call('HDEL', KEYS[1], 'dropped_at')
redis.call('PEXPIRE', KEYS[1], ARGV[9])
enter()
local answer = { 1, previous, session.created_at }
for i = 1, #names do
  answer[#answer + 1] = names[i]
end
return answer
