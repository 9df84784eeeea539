-- Begins to attach an old session: the attach gets its stamp, and whoever holds the session goes on holding it.
--
-- KEYS: 1 the session
-- ARGV: 1 'resume', or 'rebuild' when the ticket is enough if the session is missing, 2 session, 3 tenant, 4 user, 5 node,
--       6 now, 7 resume window, 8 the stamp to be above,
--       9 nodes as '|NAME=0' when living, '|NAME=LAST_BEAT' when dead, with a '|' at the end
--       10 a node looked up in particular, 11 its last beat, 0 when living, -1 when never heard of,
--       12 how long before this command was sent the attach began, microseconds,
--       13 when the attach began by this server's clock at the latest, as far as the node knows; 0 when it does not,
--       14 when the ticket was issued, which is when the session was attached
-- Answers: {1, stamp, node that holds it or '', made at, its names} resumed; {2, stamp} rebuilt; {3} refused;
--          {4} there is no such session; {5, node} whether this node lives has to be looked up
local now, window = tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]

-- A command that was long under way is no later attach for that. None takes a minute: then the node is wrong about this clock.
local began, latest = clock - ARGV[12], tonumber(ARGV[13])
if latest > clock - 60000000 then
  began = math.min(began, latest)
end
local stamp = math.max(began, ARGV[8] + 1)

local record = redis.call('HGETALL', KEYS[1])
if #record == 0 then
  if ARGV[1] == 'resume' then
    return { 4 }
  end
  return { 2, string.format('%.0f', stamp) }
end
local session, names = {}, {}
for i = 1, #record, 2 do
  local kind = string.sub(record[i], 1, 3)
  if kind == 'in:' or kind == 'on:' then
    -- A conversation with its number, as 'in:NAME/NUMBER', if the node that wrote it down knew it.
    names[#names + 1] = record[i + 1] == '' and record[i] or record[i] .. '/' .. record[i + 1]
  else
    session[record[i]] = record[i + 1]
  end
end
if session.tenant ~= ARGV[3] or session.user ~= ARGV[4] or session.ended then
  return { 3 }
end

local holder = ''
-- The session was attached when its ticket was issued, even if its node could not write that here.
local issued = tonumber(ARGV[14])
if session.dropped_at then
  if now - math.max(session.dropped_at, issued) > window then
    return { 3 }
  end
elseif session.node == ARGV[5] then
  -- The node that asks lives.
  holder = session.node
else
  local last
  if session.node == ARGV[10] then
    last = tonumber(ARGV[11])
  else
    local _, stop = string.find(ARGV[9], '|' .. session.node .. '=', 1, true)
    if not stop then
      return { 5, session.node }
    end
    last = tonumber(string.match(ARGV[9], '^%d+', stop + 1))
  end
  if last == 0 then
    holder = session.node
  elseif now - math.max(last, tonumber(session.attached_at), issued) > window then
    -- Who attached was alive then.
    return { 3 }
  end
end
-- A node of an older version attaches without a stamp: its time stands for it.
local held = tonumber(session.attached_at) * 1000
if session.stamp and session.stamped_at == session.attached_at then
  held = tonumber(session.stamp)
end
if held > clock then
  -- Given by a clock that was ahead of this one: it is earlier all the same.
  stamp = math.max(stamp, held + 1, tonumber(session.claimed or 0) + 1)
  redis.call('HSET', KEYS[1], 'claimed', string.format('%.0f', stamp))
end
local answer = { 1, string.format('%.0f', stamp), holder, session.created_at }
for i = 1, #names do
  answer[#answer + 1] = names[i]
end
return answer
