"""What runs inside Redis for tags and custom ids. See `scripts` for how scripts are written.

K names a tag (see `keys.encode_tag_key`)::

    m|K       hash: what is kept of each member: version|live|at|expires_at|holder
    l|K       sorted set: the live members, all with the score 0, so in the order of their bytes
    leaving   sorted set: length of K, K and member, by when the member goes

Versions stay text, because a Lua number is exact only up to 2^53.
"""

# Versions have no leading zeros: of two, the longer one is the higher one.
_SHARED = """
local function is_higher(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function parse(row)
  return string.match(row, '^(%d+)|([01])|([^|]*)|([^|]*)|(.*)$')
end
local function make_place(k, id)
  return string.char(math.floor(#k / 256), #k % 256) .. k .. id
end
"""

UPDATE = f"""
-- 1 prefix  2 K  3… of some hundred different members: id, live, version, at, expires_at ('': none). 0: written
-- What is to be done is collected, and done by few commands.
{_SHARED}
local p, k, ids = ARGV[1], ARGV[2], {{}}
for i = 3, #ARGV, 5 do ids[#ids + 1] = ARGV[i] end
local rows = redis.call('HMGET', p .. 'm|' .. k, unpack(ids))
local kept, added, removed, leaving, staying = {{}}, {{}}, {{}}, {{}}, {{}}
for n, id in ipairs(ids) do
  local i, row = 5 * n - 2, rows[n]
  local live, version, at, expires = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local old, was_live, _, old_expires
  if row then old, was_live, _, old_expires = parse(row) end
  if not row or is_higher(version, old) or (version == old and was_live == '1' and live == '0') then
    kept[#kept + 1] = id
    kept[#kept + 1] = version .. '|' .. live .. '|' .. at .. '|' .. expires .. '|'
    if live == '1' then
      added[#added + 1] = '0'
      added[#added + 1] = id
    elseif was_live == '1' then
      removed[#removed + 1] = id
    end
    if expires ~= '' then
      leaving[#leaving + 1] = expires
      leaving[#leaving + 1] = make_place(k, id)
    elseif old_expires and old_expires ~= '' then
      staying[#staying + 1] = make_place(k, id)
    end
  end
end
if #kept > 0 then redis.call('HSET', p .. 'm|' .. k, unpack(kept)) end
if #added > 0 then redis.call('ZADD', p .. 'l|' .. k, unpack(added)) end
if #removed > 0 then redis.call('ZREM', p .. 'l|' .. k, unpack(removed)) end
if #leaving > 0 then redis.call('ZADD', p .. 'leaving', unpack(leaving)) end
if #staying > 0 then redis.call('ZREM', p .. 'leaving', unpack(staying)) end
return 0
"""

CLAIM = f"""
-- 1 prefix  2 K  3 id  4 version  5 at  6 when a refusal goes. {{granted, id}}
{_SHARED}
local p, k, id, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local function write(row) redis.call('HSET', p .. 'm|' .. k, id, row) end
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
  if version == '0' then
    write('0|0|' .. ARGV[5] .. '|' .. ARGV[6] .. '|' .. holder)
    redis.call('ZADD', p .. 'leaving', ARGV[6], make_place(k, id))
  end
  return {{0, holder}}
end
write(version .. '|1|' .. ARGV[5] .. '||')
redis.call('ZADD', p .. 'l|' .. k, '0', id)
if old_expires and old_expires ~= '' then redis.call('ZREM', p .. 'leaving', make_place(k, id)) end
return {{1, id}}
"""

MEMBERS = f"""
-- 1 prefix  2 K  3 after ('': from the first one)  4 until ('': any time)  5 how many are looked at
-- {{how many were looked at, the last one of them, members that were added by then, …}}
{_SHARED}
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
