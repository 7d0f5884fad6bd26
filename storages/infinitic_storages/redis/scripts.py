"""What runs inside Redis. Each script is one uninterrupted step.

All keys begin with `PREFIX|`. M is the member that names an instance (see `keys`), N its name::

    s|M             hash: v version, h head, q last sequence, p published, x expires_at, e entry,
                    t status, f flag, d last segment that is gone (a remnant has v only)
    e|M  o|M        hashes: events and outboxes by sequence
    marks           sorted set: length of M, M and deduplication id, by when the id goes
    expiring        sorted set: M of instances by expires_at
    remnants        sorted set: M of remnants by when they go
    started         sorted set: M of entries by started_at; and of parts of them:
      n|N  t|STATUS  b|STATUS|N  f|FLAG  g|FLAG|N
    waking          sorted set: M of running instances by next_wake
    schema          the number of this layout

Redis refuses a script before its first write, or not at all (memory, disk, replica). So what a
script does is written as a whole or not at all. Redis does not undo a script that fails midway.
That must not happen: see `infinitic.storage.checks` and `permissions`.

Versions and sequences stay text, because a Lua number is exact only up to 2^53.
"""

SCHEMA = 3
"""1 was without flags, 2 without tags (see `tag_scripts`). What they wrote needs no change: an
instance without `f` has no flag."""

UPGRADE = """
-- 1 the key of the schema  2 its number in this release. Never back to an older one
local found = redis.call('GET', ARGV[1])
if found and tonumber(found) < tonumber(ARGV[2]) then redis.call('SET', ARGV[1], ARGV[2]) end
return 0
"""

COMMIT = """
-- 1 prefix  2 M  3 expected ('': none)  4 version  5 head  6 published  7 expires_at ('': none)
-- 8 sequence before ('': no segment)  9 sequence  10 events  11 has outbox  12 outbox
-- 13 version does not come after expected  14 status ('': no entry)  15 started_at  16 next_wake ('': none)
-- 17 entry  18 when deduplication ids go  19 flag ('': none)
-- 20 the last segment that goes ('': none does)  21… deduplication ids
-- 0: written. {1, current}: lost. {2, …}: indexes of known ids. {3}: bad version. {4, sequence}: bad segment
local call, p, m = redis.call, ARGV[1], ARGV[2]
local row = p .. 's|' .. m
local old = call('HMGET', row, 'v', 'q', 'x', 't', 'f')
local version, sequence, expires, status, flag = old[1], old[2], old[3], old[4], old[5]
if version then
  if version ~= ARGV[3] or not sequence then return {1, version} end
elseif ARGV[3] ~= '' then
  return {1, false}
end
local marks, known = p .. 'marks', {2}
for i = 21, #ARGV do
  if call('ZSCORE', marks, ARGV[i]) then known[#known + 1] = i - 21 end
end
if #known > 1 then return known end
if ARGV[13] == '1' then return {3} end
sequence = sequence or '0'
if ARGV[8] ~= '' then
  if ARGV[8] ~= sequence then return {4, sequence} end
  sequence = ARGV[9]
  call('HSET', p .. 'e|' .. m, sequence, ARGV[10])
  if ARGV[11] == '1' then call('HSET', p .. 'o|' .. m, sequence, ARGV[12]) end
end
if ARGV[20] ~= '' then
  -- Sequences are exact here: nobody writes 2^53 segments
  local gone, last = tonumber(call('HGET', row, 'd') or '0'), tonumber(ARGV[20])
  for i = gone + 1, last do call('HDEL', p .. 'e|' .. m, string.format('%d', i)) end
  for i = gone + 1, last do call('HDEL', p .. 'o|' .. m, string.format('%d', i)) end
  if last > gone then call('HSET', row, 'd', ARGV[20]) end
end
call('HSET', row, 'v', ARGV[4], 'h', ARGV[5], 'q', sequence, 'p', ARGV[6])
for i = 21, #ARGV do call('ZADD', marks, ARGV[18], ARGV[i]) end
if ARGV[7] == '' then
  if expires then
    call('HDEL', row, 'x')
    call('ZREM', p .. 'expiring', m)
  end
elseif ARGV[7] ~= expires then
  call('HSET', row, 'x', ARGV[7])
  call('ZADD', p .. 'expiring', ARGV[7], m)
end
local now = ARGV[14]
if now ~= '' then
  local n = string.sub(m, 1, string.find(m, '\\0\\0', 1, true) - 1)
  if status and status ~= now then
    call('ZREM', p .. 't|' .. status, m)
    call('ZREM', p .. 'b|' .. status .. '|' .. n, m)
  end
  if flag and flag ~= ARGV[19] then
    call('ZREM', p .. 'f|' .. flag, m)
    call('ZREM', p .. 'g|' .. flag .. '|' .. n, m)
    call('HDEL', row, 'f')
  end
  if ARGV[19] ~= '' then
    call('HSET', row, 'f', ARGV[19])
    call('ZADD', p .. 'f|' .. ARGV[19], ARGV[15], m)
    call('ZADD', p .. 'g|' .. ARGV[19] .. '|' .. n, ARGV[15], m)
  end
  call('HSET', row, 'e', ARGV[17], 't', now)
  call('ZADD', p .. 'started', ARGV[15], m)
  call('ZADD', p .. 'n|' .. n, ARGV[15], m)
  call('ZADD', p .. 't|' .. now, ARGV[15], m)
  call('ZADD', p .. 'b|' .. now .. '|' .. n, ARGV[15], m)
  if ARGV[16] ~= '' then
    call('ZADD', p .. 'waking', ARGV[16], m)
  elseif status then
    call('ZREM', p .. 'waking', m)
  end
end
return 0
"""

PUBLISHED = """
-- 1 prefix  2 M  3 version. 0: written. {1, current}: lost
local row = ARGV[1] .. 's|' .. ARGV[2]
local old = redis.call('HMGET', row, 'v', 'q')
if old[1] ~= ARGV[3] or not old[2] then return {1, old[1]} end
redis.call('HSET', row, 'p', '1')
return 0
"""

HISTORY = """
-- 1 prefix  2 M  3 with outbox  4 after  5 limit ('': exactly the sequences)  6… sequences
-- {sequences, events, outboxes}, in chunks since Lua passes some thousand arguments only
local p, m, wanted = ARGV[1], ARGV[2], {}
if ARGV[5] == '' then
  for i = 6, #ARGV do wanted[#wanted + 1] = ARGV[i] end
else
  local last = tonumber(redis.call('HGET', p .. 's|' .. m, 'q') or '0')
  local after = math.max(tonumber(ARGV[4]), tonumber(redis.call('HGET', p .. 's|' .. m, 'd') or '0'))
  for i = after + 1, math.min(last, after + tonumber(ARGV[5])) do wanted[#wanted + 1] = string.format('%d', i) end
end
local function fetch(key)
  local all = {}
  for i = 1, #wanted, 1000 do
    for _, value in ipairs(redis.call('HMGET', key, unpack(wanted, i, math.min(#wanted, i + 999)))) do
      all[#all + 1] = value
    end
  end
  return all
end
return {wanted, fetch(p .. 'e|' .. m), ARGV[3] == '1' and fetch(p .. 'o|' .. m) or {}}
"""

FIND = """
-- 1 prefix  2 index  3 count  4 started before ('': any)  5 cursor's started_at ('': none)  6 cursor's M
-- {M, entry, …}, newest start first, then the greater M
local index = ARGV[1] .. ARGV[2]
local function less(a, b) -- as bytes; Lua's own < asks the locale
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local first = 0
if ARGV[4] ~= '' then first = redis.call('ZCOUNT', index, ARGV[4], '+inf') end
if ARGV[5] ~= '' then
  -- The rank after the cursor, halving among equal starts: its instance may be gone.
  local low = redis.call('ZCOUNT', index, '(' .. ARGV[5], '+inf')
  local high = low + redis.call('ZCOUNT', index, ARGV[5], ARGV[5])
  while low < high do
    local middle = math.floor((low + high) / 2)
    if less(redis.call('ZREVRANGE', index, middle, middle)[1], ARGV[6]) then high = middle else low = middle + 1 end
  end
  first = math.max(first, low)
end
local found = {}
for _, m in ipairs(redis.call('ZREVRANGE', index, first, first + tonumber(ARGV[3]) - 1)) do
  found[#found + 1] = m
  found[#found + 1] = redis.call('HGET', ARGV[1] .. 's|' .. m, 'e')
end
return found
"""

COUNT = """
-- 1 prefix  2 index  3 started after ('': any)  4 started before ('': any). How many entries
local low = ARGV[3] == '' and '-inf' or '(' .. ARGV[3]
local high = ARGV[4] == '' and '+inf' or '(' .. ARGV[4]
return redis.call('ZCOUNT', ARGV[1] .. ARGV[2], low, high)
"""

OVERDUE = """
-- 1 prefix  2 before  3 how many at most. {M, entry, …} in no useful order; false: there are more
local waking, before = ARGV[1] .. 'waking', '(' .. ARGV[2]
if redis.call('ZCOUNT', waking, '-inf', before) > tonumber(ARGV[3]) then return false end
local found = {}
for _, m in ipairs(redis.call('ZRANGEBYSCORE', waking, '-inf', before)) do
  found[#found + 1] = m
  found[#found + 1] = redis.call('HGET', ARGV[1] .. 's|' .. m, 'e')
end
return found
"""

PURGE = """
-- 1 prefix  2 now  3 deduplication window  4 limit of remnants  5 limit of instances and ids
-- {remnants gone, instances and ids gone}
-- What is due is looked up and removed in this one step: nobody can have prolonged it in between.
local call, p = redis.call, ARGV[1]
local function due(index, limit)
  return limit > 0 and call('ZRANGEBYSCORE', p .. index, '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, limit) or {}
end
local limit, gone = tonumber(ARGV[5]), 0
local remnants = due('remnants', tonumber(ARGV[4]))
for i = 1, #remnants, 2 do
  call('DEL', p .. 's|' .. remnants[i])
  call('ZREM', p .. 'remnants', remnants[i])
end
local expired = due('expiring', limit)
for i = 1, #expired, 2 do
  local m, row = expired[i], p .. 's|' .. expired[i]
  local n = string.sub(m, 1, string.find(m, '\\0\\0', 1, true) - 1)
  local kept = call('HMGET', row, 'v', 't', 'f')
  if kept[2] then
    call('ZREM', p .. 'started', m)
    call('ZREM', p .. 'n|' .. n, m)
    call('ZREM', p .. 't|' .. kept[2], m)
    call('ZREM', p .. 'b|' .. kept[2] .. '|' .. n, m)
    call('ZREM', p .. 'waking', m)
  end
  if kept[3] then
    call('ZREM', p .. 'f|' .. kept[3], m)
    call('ZREM', p .. 'g|' .. kept[3] .. '|' .. n, m)
  end
  call('UNLINK', row, p .. 'e|' .. m, p .. 'o|' .. m)
  call('ZREM', p .. 'expiring', m)
  call('HSET', row, 'v', kept[1])
  call('ZADD', p .. 'remnants', string.format('%.17g', tonumber(expired[i + 1]) + tonumber(ARGV[3])), m)
  gone = gone + 1
end
local marks = due('marks', limit - gone)
for i = 1, #marks, 2 do
  call('ZREM', p .. 'marks', marks[i])
  gone = gone + 1
end
return {#remnants / 2, gone}
"""
