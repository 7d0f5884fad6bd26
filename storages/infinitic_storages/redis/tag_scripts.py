"""What runs inside Redis for tags and custom ids. See `scripts` for how scripts are written.

K names a tag (see `keys.encode_tag_key`)::

    m|K       hash: what is kept of each member: version|live|at|expires_at|holder
    l|K       sorted set: the live members, all with the score 0, so in the order of their bytes
    leaving   sorted set: length of K, K and member, by when the member goes

Versions stay text, because a Lua number is exact only up to 2^53.
"""

# Versions have no leading zeros: of two, the longer one is the higher one.
_NEWER = """
local function is_higher(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function parse(row)
  return string.match(row, '^(%d+)|([01])|([^|]*)|([^|]*)|(.*)$')
end
local function write(p, k, id, version, live, at, expires, holder, old_expires)
  redis.call('HSET', p .. 'm|' .. k, id, version .. '|' .. live .. '|' .. at .. '|' .. expires .. '|' .. holder)
  if live == '1' then
    redis.call('ZADD', p .. 'l|' .. k, '0', id)
  else
    redis.call('ZREM', p .. 'l|' .. k, id)
  end
  local place = string.char(math.floor(#k / 256), #k % 256) .. k .. id
  if expires ~= '' then
    redis.call('ZADD', p .. 'leaving', expires, place)
  elseif old_expires and old_expires ~= '' then
    redis.call('ZREM', p .. 'leaving', place)
  end
end
"""

UPDATE = f"""
-- 1 prefix  2 K  3… of each member: id, live, version, at, expires_at ('': none). 0: written
{_NEWER}
local p, k = ARGV[1], ARGV[2]
for i = 3, #ARGV, 5 do
  local id, live, version, row = ARGV[i], ARGV[i + 1], ARGV[i + 2], redis.call('HGET', p .. 'm|' .. k, ARGV[i])
  local counts, old_expires = true, nil
  if row then
    local old, was_live, _, gone = parse(row)
    old_expires = gone
    counts = is_higher(version, old) or (version == old and was_live == '1' and live == '0')
  end
  if counts then write(p, k, id, version, live, ARGV[i + 3], ARGV[i + 4], '', old_expires) end
end
return 0
"""

CLAIM = f"""
-- 1 prefix  2 K  3 id  4 version  5 at  6 when a refusal goes. {{granted, id}}
{_NEWER}
local p, k, id, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local row, old_expires = redis.call('HGET', p .. 'm|' .. k, id), nil
if row then
  local old, live, _, expires, holder = parse(row)
  if not is_higher(version, old) then
    if holder ~= '' then return {{0, holder}} end
    return {{tonumber(live), id}}
  end
  old_expires = expires
end
local holder = redis.call('ZRANGEBYLEX', p .. 'l|' .. k, '-', '+', 'LIMIT', '0', '1')[1]
if holder and holder ~= id then
  if version == '0' then write(p, k, id, '0', '0', ARGV[5], ARGV[6], holder, old_expires) end
  return {{0, holder}}
end
write(p, k, id, version, '1', ARGV[5], '', '', old_expires)
return {{1, id}}
"""

MEMBERS = f"""
-- 1 prefix  2 K  3 after ('': from the first one)  4 until ('': any time)  5 how many are looked at
-- {{how many were looked at, the last one of them, members that were added by then, …}}
{_NEWER}
local p, k, last = ARGV[1], ARGV[2], ARGV[3]
local first = last == '' and '-' or '(' .. last
local ids = redis.call('ZRANGEBYLEX', p .. 'l|' .. k, first, '+', 'LIMIT', '0', ARGV[5])
local found = {{#ids, ids[#ids] or ''}}
for i = 1, #ids do
  local added = true
  if ARGV[4] ~= '' then
    local _, _, at = parse(redis.call('HGET', p .. 'm|' .. k, ids[i]))
    added = tonumber(at) <= tonumber(ARGV[4])
  end
  if added then found[#found + 1] = ids[i] end
end
return found
"""

PURGE = """
-- 1 prefix  2 now  3 limit. How many members have gone
local p = ARGV[1]
local due = redis.call('ZRANGEBYSCORE', p .. 'leaving', '-inf', ARGV[2], 'LIMIT', '0', ARGV[3])
for i = 1, #due do
  local size = string.byte(due[i], 1) * 256 + string.byte(due[i], 2)
  local k, id = string.sub(due[i], 3, 2 + size), string.sub(due[i], 3 + size)
  redis.call('HDEL', p .. 'm|' .. k, id)
  redis.call('ZREM', p .. 'l|' .. k, id)
  redis.call('ZREM', p .. 'leaving', due[i])
end
return #due
"""
