-- The epoch that numberings of this group of lanes begin with now, and the one before it, or an empty text.
--
-- Topics without a numbering share an epoch, so that a subscription can be told a position without anything being written for its
-- topic: offset 0 of this epoch. A numbering that begins takes the epoch over, and whoever has that position gets what came since.
-- A new epoch begins long before the first numbering of the old one can have expired, so no two numberings of a topic share an
-- epoch. FLUSHALL takes the key with it, and another run of the server does not know it: both begin a new epoch.
local function epochs(key, server, fresh, renew_seconds, numbering_seconds)
  local now = tonumber(redis.call('TIME')[1])
  local kept = redis.call('HMGET', key, 'epoch', 'began', 'server', 'before', 'before_began')
  local epoch, began = kept[1], tonumber(kept[2])
  local before, before_began = kept[4] or '', tonumber(kept[5]) or 0
  local known = epoch and began and kept[3] == server
  -- A clock that was set back would keep an epoch for too long.
  if not known or now - began >= renew_seconds or now < began then
    before, before_began = known and epoch or '', known and began or 0
    epoch, began = fresh, now
    redis.call('HSET', key, 'epoch', epoch, 'began', began, 'server', server,
      'before', before, 'before_began', before_began)
    redis.call('EXPIRE', key, numbering_seconds)
  end
  -- Somebody who was told the epoch before may have missed a whole life of a numbering since, if that is long ago.
  if now - before_began >= numbering_seconds or now < before_began then
    before = ''
  end
  return epoch, before
end
