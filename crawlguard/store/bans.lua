-- The bans of a site, in one call. Times in us of the server's clock.
-- KEYS: two hashes, of the bans by hand and of those that rules began, and the version: another number after each change that workers have to heed.
-- A field names a ban; its value is "until since times rest", where the rest is the caller's.
-- ARGV: all                         -> now, the first hash, the second: fields and values in turn
--       put (kind field left rest)...  kind: the number of the hash; left: us until it ends -> how many were written or stood already
--       drop field...               out of either hash                                      -> how many there were
local MOST, LONGEST, SAME, DAY = 4096, 1024, 2000000, 86400000 -- fields of a hash; bytes of a field and of a value; us; ms
local KEPT = 40 * DAY -- longer than any ban by hand

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function whole(number) return string.format('%.0f', number) end

local function size_of(hash)
  local size = redis.call('HLEN', hash)
  if size > 2 * MOST then return nil end
  return size
end

local function foreign(hash) return redis.error_reply('ERR ' .. hash .. ' is not as crawlguard writes it; delete it') end

local function changed() redis.call('SET', KEYS[3], whole(now), 'PX', KEPT) end

-- Make room in a full hash: for what is over or is no ban at all, else for those that end first; of rules' a quarter, so that it is seldom done.
local function make_room(hash, by_hand)
  local found, pairs_of = {}, redis.call('HGETALL', hash)
  for n = 1, #pairs_of, 2 do
    found[#found + 1] = {tonumber(string.match(pairs_of[n + 1], '^(%d+) %d+ %d+ ')) or 0, pairs_of[n]}
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  local most = #found - MOST + (by_hand and 1 or MOST / 4)
  for n, one in ipairs(found) do
    if n > most and one[1] > now then break end
    redis.call('HDEL', hash, one[2])
  end
end

local function put(kind, field, left, rest)
  local hash, by_hand, times = KEYS[kind], kind == 1, 0
  local old = redis.call('HGET', hash, field)
  if old then
    local till, count = string.match(old, '^(%d+) %d+ (%d+) ')
    if till and not by_hand and math.abs(tonumber(till) - now - left) < SAME then return end
    times = math.min(tonumber(count) or 0, 999999999)
  elseif size_of(hash) >= MOST then
    make_room(hash, by_hand)
  end
  redis.call('HSET', hash, field, whole(now + left) .. ' ' .. whole(now) .. ' ' .. whole(times + 1) .. ' ' .. rest)
  local keep = math.ceil(left / 1000) + DAY
  if redis.call('PTTL', hash) < keep then redis.call('PEXPIRE', hash, keep) end
  if by_hand then changed() end
end

for kind = 1, 2 do
  if not size_of(KEYS[kind]) then return foreign(KEYS[kind]) end
end
if ARGV[1] == 'put' then
  for n = 2, #ARGV, 4 do put(tonumber(ARGV[n]), ARGV[n + 1], tonumber(ARGV[n + 2]), ARGV[n + 3]) end
  return (#ARGV - 1) / 4
elseif ARGV[1] == 'drop' then
  local dropped = 0
  for n = 2, #ARGV do dropped = dropped + redis.call('HDEL', KEYS[1], ARGV[n]) + redis.call('HDEL', KEYS[2], ARGV[n]) end
  changed()
  return dropped
end
local answer = {now}
for kind = 1, 2 do
  local kept, pairs_of = {}, redis.call('HGETALL', KEYS[kind])
  for n = 1, #pairs_of, 2 do
    if #pairs_of[n] <= LONGEST and #pairs_of[n + 1] <= LONGEST then
      kept[#kept + 1] = pairs_of[n]
      kept[#kept + 1] = pairs_of[n + 1]
    end
  end
  answer[kind + 1] = kept
end
return answer
