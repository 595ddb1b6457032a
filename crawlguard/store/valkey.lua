-- All operations of one request, in order, up to the first word that is over its limit. Mirrors store/memory*.py, by the server's clock.
-- KEYS: one for each operation, its hash tag in braces; what else it keeps lies beside it, under names with the same tag.
-- ARGV: each operation's length, code and numbers:
--   1 hit, 2 peek: interval tolerance hold
--   3 conduct:     within kind path dry limit [ago]     path: the bit it sets, -1 for none; ago: us since the request
--   4 swarm:       within kind client path dry member mark clients times    client, path: the bits that they set, the latter -1 for none
--   5 refund:      interval
--   6 charge:      cost most                            up to most us ahead of now
--   7 clock:       now                                  in us, in place of the server's for what follows, whose keys then stay a minute longer
--   8 forget:                                           the word of a key, and its profile
--   9 held:        interval tolerance hold              as peek, for those who ask about many keys: strikes nobody
--  10 add:         cost tolerance hold struck interval  what a process has admitted by itself, in full, and whether it has begun to hold the key;
--                                                       answers by how much the key is ahead of now, or less than 0 for how long it is held
-- Answers: a list of numbers for each operation, up to the first that strikes somebody: what is refused uses up nothing further on.
local AHEAD, DAY, FEW, MOST, SLOWLY = 60000000, 86400000, 4, 16777215, 64
local LONGEST = 31 * 86400000000 -- the longest term, in us
local CROWD = 1024 -- processes that may each have admitted a whole burst before they heard of each other: no word is further ahead than theirs

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers, at, key, spare = {}, 1, 0, 0

local function whole(number) return string.format('%.0f', number) end
local function numbers(text)
  local found = {}
  for word in string.gmatch(text or '', '%S+') do found[#found + 1] = tonumber(word) end
  return found
end
local function ms(us) return math.max(1, math.ceil((us + spare) / 1000)) end
local function keep(name, value, us) redis.call('SET', name, value, 'PX', ms(us)) end
local function runs(till, within) return till and now < till and till <= now + within + AHEAD end

-- The TAT of a key whose hold is over: it was at its limit when that began, and has been refilled since, by one request at least.
local function refilled(till, interval, tolerance, hold)
  if hold > 0 and till <= now then return till + tolerance - math.max(hold, interval) end
  return now
end

local function word(counts, name, interval, tolerance, hold)
  local tat = tonumber(redis.call('GET', name) or 0)
  if tat < 0 then
    if now < -tat and -tat <= now + hold then return -tat - now end
    tat = refilled(-tat, interval, tolerance, hold)
  elseif tat > now + tolerance + AHEAD then -- the server's clock has been set back
    tat = now
  end
  local due = math.max(now, tat) + interval
  local wait = due - now - tolerance
  if wait <= 0 then
    if counts then keep(name, whole(due), due - now) end
    return 0
  end
  if counts and hold > 0 then
    keep(name, whole(-(now + hold)), math.max(hold, tolerance))
    return hold
  end
  return wait
end

local function add(name, cost, interval, tolerance, hold, struck)
  local tat = tonumber(redis.call('GET', name) or 0)
  if tat < 0 then
    if now < -tat and -tat <= now + (struck and LONGEST or hold) then return tat + now end -- who began it first decides for how long
    tat = refilled(-tat, interval, tolerance, hold)
  elseif tat > now + CROWD * tolerance + AHEAD then
    tat = now
  end
  local due = math.max(now, tat) + cost
  if hold > 0 and (struck or due - now > tolerance) then
    keep(name, whole(-(now + hold)), math.max(hold, tolerance))
    return -hold
  end
  if cost > 0 then keep(name, whole(due), due - now) end
  return due - now
end

local function refund(name, interval)
  local tat = tonumber(redis.call('GET', name) or 0)
  if tat > now + interval then keep(name, whole(tat - interval), tat - interval - now) elseif tat > 0 then redis.call('DEL', name) end
end

local function charge(name, cost, most)
  local tat = math.max(now, tonumber(redis.call('GET', name) or 0))
  if tat > now + most + AHEAD then tat = now end
  local due = math.max(tat, math.min(tat + cost, now + most))
  keep(name, whole(due), due - now)
end

-- How many bits of a bitmap are set: none, where the server has evicted it without its head. What is evicted must not count again.
local function left_of(bitmap, ones)
  if ones > 0 and redis.call('EXISTS', bitmap) == 0 then return 0 end
  return ones
end

-- A profile: until, documents, assets, robots, last, mean, spread, bits set among the paths (-1: none yet), the first few paths.
local function conduct(name, within, kind, low, dry, ago)
  local paths, at = name .. ':p', now - ago
  local s = numbers(redis.call('GET', name))
  if not runs(s[1], within) then s = {now + within, 0, 0, 0, 0, 0, 0, -1} end
  if kind == 0 then
    if s[2] > 0 then
      local gap = math.max(0, at - s[5])
      local off = gap - s[6]
      s[6] = s[6] + off / s[2]
      s[7] = s[7] + off * (gap - s[6])
    end
    s[2], s[5] = math.min(s[2] + 1, MOST), at
  elseif kind == 1 then
    s[3] = math.min(s[3] + 1, MOST)
  else
    s[4] = math.min(s[4] + 1, 65535)
  end
  local left = s[1] - now
  if low >= 0 and kind == 0 then
    if s[8] >= 0 then
      if redis.call('GETBIT', paths, low) == 0 then
        s[8] = left_of(paths, s[8]) + 1
        if not dry then redis.call('SETBIT', paths, low, 1) end
      end
    else
      local there = false
      for n = 9, #s do there = there or s[n] == low end
      if not there then s[#s + 1] = low end
      if #s - 8 > FEW and not dry then
        redis.call('DEL', paths)
        s[8] = #s - 8
        while #s > 8 do redis.call('SETBIT', paths, table.remove(s), 1) end
      end
    end
    if s[8] >= 0 and not dry then redis.call('PEXPIRE', paths, ms(left)) end
  end
  if not dry then
    local text = {}
    for n, value in ipairs(s) do text[n] = (n == 6 or n == 7) and string.format('%.17g', value) or whole(value) end
    keep(name, table.concat(text, ' '), left)
  end
  local gaps = math.max(0, s[2] - 1)
  local spread = (gaps > 0 and s[7] > 0) and math.sqrt(s[7] / gaps) or 0
  return {s[2], s[3], s[4], s[8], #s - 8, gaps, math.floor(s[6]), math.floor(spread), left}
end


local function estimate(ones) return math.floor(8192 * math.log(8192 / math.max(1, 8192 - ones)) + 0.5) end

local function learnt(usual, ones, ended, within)
  local clients = estimate(ones) * 256
  local counted = usual > 0 and math.min(clients, 2 * usual) or clients
  usual = usual + math.floor((counted - usual) / SLOWLY)
  local empty = math.min(4096, math.floor(math.max(0, now - ended) / within))
  return math.floor(usual * (1 - 1 / SLOWLY) ^ empty)
end

local function note(name, ever, new)
  redis.call('SET', name, 1, 'PX', DAY)
  if new then redis.call('INCR', ever) end
  redis.call('PEXPIRE', ever, DAY)
end

-- A group: until, documents, clients' bits, paths' bits, residents, usual.
local function swarm(group, within, kind, client, path, dry, member, mark)
  local tag, clients, paths, seen = string.match(group, '^.-}:'), group .. ':m', group .. ':d', group .. ':' .. member
  local ever, resident, known = tag .. 'ever', tag .. 'r' .. member, tag .. 'k' .. mark
  local s = numbers(redis.call('GET', group))
  local fresh = not runs(s[1], within)
  if fresh then
    s = {now + within, 0, 0, 0, 0, s[1] and learnt(s[6], s[3], s[1], within) or 0}
    if not dry then redis.call('DEL', clients, paths) end
  end
  local left = s[1] - now
  local is = redis.call('EXISTS', resident) == 1
  local was = not fresh and redis.call('GET', seen) == whole(s[1])
  local knows = path >= 0 and redis.call('EXISTS', known) == 1
  local there = not fresh and redis.call('GETBIT', clients, client) == 1
  if kind == 1 then
    s[5] = s[5] + 1
    if was and not is then -- neither the client nor the page that the asset belongs to is bare
      if there then s[3] = math.max(0, s[3] - 1) end
      s[2] = math.max(0, s[2] - 1)
      if there and not dry then redis.call('SETBIT', clients, client, 0) end
      if path >= 0 and not dry then note(known, ever, not knows) end
    end
    if not dry then note(resident, ever, not is) end
  elseif is then
    s[5] = s[5] + 1
    if path >= 0 and not dry then note(known, ever, not knows) end
  elseif kind == 0 then
    local new = path >= 0 and (fresh or redis.call('GETBIT', paths, path) == 0)
    if not there then s[3] = left_of(clients, s[3]) + 1 end
    if new then
      local held = left_of(paths, s[4])
      if held < s[4] then s[2] = 0 end -- as many documents as paths, or their share means nothing
      s[4] = held + 1
    end
    s[2] = s[2] + 1
    if not dry then
      redis.call('SET', seen, whole(s[1]), 'PX', ms(left))
      if not there then
        redis.call('SETBIT', clients, client, 1)
        redis.call('PEXPIRE', clients, ms(left))
      end
      if new then
        redis.call('SETBIT', paths, path, 1)
        redis.call('PEXPIRE', paths, ms(left))
      end
    end
  end
  if not dry then
    local text = {}
    for n, value in ipairs(s) do text[n] = whole(value) end
    -- What is usual for a group of one client is nothing to remember: whoever makes up a new one for each request would fill the server with them.
    local alone = s[3] <= 1 and s[6] < 256
    redis.call('SET', group, table.concat(text, ' '), 'PX', alone and ms(left) or math.max(DAY, math.ceil(SLOWLY * within / 1000)))
  end
  return {s[3], s[2], s[4], s[5], math.floor(s[6] / 256), left, tonumber(redis.call('GET', ever) or 0), is and 1 or 0, was and 1 or 0, knows and 1 or 0}
end

while ARGV[at] do
  local code = tonumber(ARGV[at + 1])
  local function n(offset) return tonumber(ARGV[at + 1 + offset]) end
  key = key + 1
  local name, answer, struck = KEYS[key], {0}, false
  if code <= 2 then
    answer[1] = word(code == 1, name, n(1), n(2), n(3))
    struck = answer[1] > 0
  elseif code == 3 then
    answer = conduct(name, n(1), n(2), n(3), n(4) == 1, tonumber(ARGV[at]) > 6 and n(6) or 0)
    struck = n(5) > 0 and (answer[4] >= 0 and estimate(answer[4]) or answer[5]) > n(5)
  elseif code == 4 then
    answer = swarm(name, n(1), n(2), n(3), n(4), n(5) == 1, ARGV[at + 7], ARGV[at + 8])
    struck = n(8) > 0 and answer[8] == 0 and estimate(answer[1]) >= math.max(n(8), n(9) * answer[5])
  elseif code == 5 then
    refund(name, n(1))
  elseif code == 6 then
    charge(name, n(1), n(2))
  elseif code == 9 then
    answer[1] = word(false, name, n(1), n(2), n(3))
  elseif code == 10 then
    answer[1] = add(name, n(1), n(5), n(2), n(3), n(4) == 1)
  elseif code == 8 then
    local profile = string.gsub(name, '}:w', '}:c', 1)
    redis.call('DEL', name, profile, profile .. ':p')
  else
    now, spare = n(1), 60000000
  end
  answers[key] = answer
  if struck then break end
  at = at + 1 + tonumber(ARGV[at])
end
return answers
