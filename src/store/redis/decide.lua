-- Decides a batch of requests in order, each all or nothing over its charges. The arithmetic is that
-- of crates/core/src/bucket.rs, and what is taken follows crates/core/src/settle.rs.
--
-- KEYS     the buckets of the batch, each once; first those that one entry of one charge alone asks for
-- ARGV[1]  little-endian doubles, for each run of these first keys: its length; of each, how many equal
--          requests ask, hits, payment (0 prepaid, 1 postpaid, 2 a question: nothing is taken), capacity,
--          ceiling, drip (0: a window), period in us
-- ARGV[2]  likewise, for each other entry: how many equal requests it stands for, how many charges each
--          has; per charge: place in KEYS, part (0 shadow, 1 must, 2 and up quota groups; below 0 a
--          candidate, which stands in for others, see stands_in), then as above from hits on; with payment
--          3, hits taken in vain that are given back, the bucket's at back then
-- reply    the value of each bucket as it was, then now in us; whoever asked decides the same again
-- value    5 little-endian doubles: at, whole, part, drip, period
--
-- Runs on Redis 5.0 and newer: expiry is relative to the time that was read, because PXAT came with 6.2.
-- All numbers are integers below 2^53 and exact in Lua's doubles. A bucket that is full needs no key.
-- A key is written once, and only when the batch changed it.
local call, pack, unpack_struct = redis.call, struct.pack, struct.unpack
local keys, format, floor, min = KEYS, string.format, math.floor, math.min
local EXACT = 9007199254740992 -- 2^53
local LONGEST = 1e14           -- ms; Redis takes no expiry beyond 2^63 us
local SHIFT = 67108864         -- 2^26: of the two numbers in a candidate's part
local CELL = 16777216          -- us; a write whose expiry stays in its cell leaves it alone

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local count = #keys
local values = {}
-- Lua hands over only so many arguments at once.
for first = 1, count, 4000 do
  local some = call('MGET', unpack(keys, first, min(first + 3999, count)))
  if first == 1 then
    values = some
  else
    for i = 1, #some do values[first + i - 1] = some[i] end
  end
end

-- What most batches are made of: buckets that one charge alone asks for, under the limit that they were
-- charged under before. Written out, with no table and no function made; what is rarer is left over.
local left_over
local packed, position, size, k = ARGV[1], 1, #ARGV[1], 0
while position < size do
  local length, times, hits, payment, capacity, ceiling, d, p
  length, times, hits, payment, capacity, ceiling, d, p, position =
    unpack_struct('<dddddddd', packed, position)
  for _ = 1, length do
    k = k + 1
    local value = values[k]
    local a, w, r, cell, known = now, 0, 0, nil, hits > 0
    if known and value then
      local vd, vp
      if #value == 40 then a, w, r, vd, vp = unpack_struct('<ddddd', value) end
      known = vd == d and vp == p and a >= 0 and a < EXACT and w >= 0 and w < ceiling and r >= 0 and r < p
      if known then
        local taken = w * p + r
        local full = d == 0 and a + p or a + taken / d
        cell = full - full % CELL
        if d == 0 then
          if now - now % p > a then
            w = 0
            r = 0
          end
        elseif now > a then
          local product = (now - a) * d
          a = now
          if taken + p >= EXACT or product + p >= EXACT then
            known = false
          elseif product >= taken then
            w = 0
            r = 0
          else
            taken = taken - product
            r = taken % p
            w = (taken - r) / p
          end
        end
      end
    end
    if known then
      if w == 0 and r == 0 then a = d == 0 and now - now % p or now end
      local used = w
      if payment == 1 then
        w = w + times * hits
        if w >= ceiling then w = ceiling; r = 0 end
      elseif payment == 0 then
        local left = capacity - w
        if r > 0 then left = left - 1 end
        if left >= hits then w = w + hits * min(times, floor(left / hits)) end
      end
      if w > used then
        local full = d == 0 and a + p or a + (w * p + r) / d
        local new = full - full % CELL
        value = pack('<ddddd', a, w, r, d, p)
        if new == cell then
          call('SETRANGE', keys[k], '0', value)
        else
          call('SET', keys[k], value, 'PX', format('%.0f', min((new + 2 * CELL - now) / 1000, LONGEST)))
        end
      elseif value and w == 0 and r == 0 then
        -- Full: forget it, lest a clock that steps back bring it up again.
        call('DEL', keys[k])
      end
    else
      left_over = left_over or {}
      left_over[#left_over + 1] = { k, times, hits, payment, capacity, ceiling, d, p }
    end
  end
end

if not left_over and #ARGV[2] == 0 then
  values[count + 1] = now
  return values
end

-- The rest, by the letter.

-- x * m / d, as whole and rest, exactly.
local function muldiv(x, m, d)
  local product = x * m
  -- Lua's % divides, rounds down and multiplies: exact as long as dividend and divisor together are.
  if product + d < EXACT then
    local rest = product % d
    return (product - rest) / d, rest
  end
  -- Bit by bit of m, highest first: no intermediate value needs more bits than d has, plus one.
  local xrest = math.fmod(x, d)
  local xwhole = (x - xrest) / d
  local bit = 1
  while bit * 2 <= m do bit = bit * 2 end
  local whole, rest = 0, 0
  while bit >= 1 do
    whole = whole * 2
    rest = rest * 2
    if rest >= d then rest = rest - d; whole = whole + 1 end
    if m >= bit then
      m = m - bit
      whole = whole + xwhole
      rest = rest + xrest
      if rest >= d then rest = rest - d; whole = whole + 1 end
    end
    bit = bit / 2
  end
  return whole, rest
end

-- The cell of the time at which a bucket is full. Late by what division may lose, never early.
local function cell(at, whole, rest, drip, period)
  local full = at + period
  if drip > 0 then full = at + (whole * period + rest) / drip end
  return full - full % CELL
end

-- Writes a bucket, or forgets it if it is full; old is the cell of its expiry so far.
local function write(k, a, w, r, d, p, old)
  if w == 0 and r == 0 then
    if values[k] then call('DEL', keys[k]) end
    return
  end
  local new, value = cell(a, w, r, d, p), pack('<ddddd', a, w, r, d, p)
  if new == old then
    call('SETRANGE', keys[k], '0', value)
  else
    local expiry = min((new + 2 * CELL - now) / 1000, LONGEST)
    call('SET', keys[k], value, 'PX', format('%.0f', expiry))
  end
end

-- The buckets, refilled to now under the limits that they were charged under; nil where full.
local at, whole, rest, drip, period = {}, {}, {}, {}, {}
local dirty, cells = {}, {}
local function load(k)
  local value = values[k]
  whole[k], rest[k] = 0, 0
  if not value or #value ~= 40 then return end
  local a, w, r, d, p = unpack_struct('<ddddd', value)
  -- What somebody else wrote there is no bucket, as if there were no key. (A NaN fails all of these.)
  if a >= 0 and a < EXACT and w >= 0 and w < EXACT and r >= 0 and r < p
    and d >= 0 and d < 4294967296 and p >= 1 and p < EXACT then
    cells[k] = cell(a, w, r, d, p)
    if now > a then
      if d == 0 then
        local begin = now - now % p
        if begin > a then a = begin; w = 0; r = 0 end
      else
        local back, backrest = muldiv(now - a, d, p)
        a = now
        w = w - back
        r = r - backrest
        if r < 0 then r = r + p; w = w - 1 end
        if w < 0 then w = 0; r = 0 end
      end
    end
    at[k], whole[k], rest[k], drip[k], period[k] = a, w, r, d, p
    -- Full: forget it, lest a clock that steps back bring it up again.
    if w == 0 and r == 0 then dirty[k] = true end
  end
end

-- Brings bucket k under a limit.
local function bring(k, ceiling, d, p)
  if whole[k] == 0 and rest[k] == 0 then
    at[k] = now
    if d == 0 then at[k] = now - now % p end
    drip[k], period[k] = d, p
    return
  end
  if drip[k] ~= d or period[k] ~= p then
    dirty[k] = true
    local carried, over = muldiv(rest[k], p, period[k])
    if over > 0 then carried = carried + 1 end
    if carried >= p then carried = carried - p; whole[k] = whole[k] + 1 end
    rest[k] = carried
    if d == 0 then at[k] = now - now % p elseif at[k] < now then at[k] = now end
    drip[k], period[k] = d, p
  end
  if whole[k] >= ceiling and (whole[k] > ceiling or rest[k] > 0) then
    dirty[k] = true
    whole[k] = ceiling
    rest[k] = 0
  end
end

-- The charges of an entry: key, hits, payment, part, capacity, ceiling, drip, period, and when hits given
-- back were taken. Made once; what they hold beyond the charges of an entry is of entries before it.
local ks, hs, pays, parts, caps, ceils, ds, ps, ats = {}, {}, {}, {}, {}, {}, {}, {}, {}
local fits = {}

-- Bucket k after so many hits that were taken in vain when its time was so: what has come back since
-- may have been lost without them, so that much less is given back.
local function given_back(k, hits, taken_at)
  local w, r = hits, 0
  if drip[k] == 0 then
    if at[k] ~= taken_at then w = 0 end
  elseif at[k] > taken_at then
    local back, backrest = muldiv(at[k] - taken_at, drip[k], period[k])
    w = w - back
    r = -backrest
    if r < 0 then r = r + period[k]; w = w - 1 end
    if w < 0 then w = 0; r = 0 end
  end
  w = whole[k] - w
  r = rest[k] - r
  if r < 0 then r = r + period[k]; w = w - 1 end
  return w, r
end

-- Whether the request would pass if the candidates of this part were limits, in the place of the charges
-- after `from` and before `to`.
local function stands_in(part, charges)
  local to = -part % SHIFT
  local from, groups = (-part - to) / SHIFT, nil
  for c = 1, charges do
    local other, ok = parts[c], fits[c] or (c > from and c < to)
    if other == part or other == 1 then
      if not ok then return false end
    elseif other > 1 then
      groups = groups or {}
      groups[other] = groups[other] ~= false and ok
    end
  end
  if not groups then return true end
  for _, ok in pairs(groups) do
    if ok then return true end
  end
  return false
end

-- Decides so many equal requests of these charges.
local function decide(times, charges)
  for turn = 1, times do
    local admitted, groups = true, nil
    for c = 1, charges do
      local k, hits, part = ks[c], hs[c], parts[c]
      if turn == 1 then bring(k, ceils[c], ds[c], ps[c]) end
      local need = whole[k] + hits
      if hits == 0 then need = need + 1 end
      if rest[k] > 0 then need = need + 1 end
      local ok = hits < 0 or need <= caps[c]
      fits[c] = ok
      if part == 1 then
        admitted = admitted and ok
      elseif part > 1 then
        groups = groups or {}
        groups[part] = groups[part] ~= false and ok
      end
    end
    if admitted and groups then
      admitted = false
      for _, ok in pairs(groups) do admitted = admitted or ok end
    end
    local changed = false
    for c = 1, charges do
      local k, hits = ks[c], hs[c]
      local pay, passes = pays[c], admitted
      if parts[c] < 0 then passes = stands_in(parts[c], charges) end
      if pay ~= 2 and (hits < 0 or pay == 1 or (passes and fits[c])) then
        local w, r = whole[k] + hits, rest[k]
        if pay == 3 then w, r = given_back(k, -hits, ats[c]) end
        if w < 0 then w = 0; r = 0 end
        if w >= ceils[c] then w = ceils[c]; r = 0 end
        if w ~= whole[k] or r ~= rest[k] then
          whole[k], rest[k], dirty[k], changed = w, r, true, true
        end
      end
    end
    if not changed then return end
  end
end

for _, entry in ipairs(left_over or {}) do
  local times
  -- Alone, every part is the same.
  parts[1] = 1
  ks[1], times, hs[1], pays[1], caps[1], ceils[1], ds[1], ps[1] = unpack(entry)
  local k = ks[1]
  load(k)
  decide(times, 1)
  if dirty[k] then write(k, at[k], whole[k], rest[k], drip[k], period[k], cells[k]) end
end

local first = k + 1
for k = first, count do load(k) end
packed, position, size = ARGV[2], 1, #ARGV[2]
while position < size do
  local times, charges
  times, charges, position = unpack_struct('<dd', packed, position)
  for c = 1, charges do
    ks[c], parts[c], hs[c], pays[c], caps[c], ceils[c], ds[c], ps[c], position =
      unpack_struct('<dddddddd', packed, position)
    if pays[c] == 3 then ats[c], position = unpack_struct('<d', packed, position) end
  end
  decide(times, charges)
end
for k = first, count do
  if dirty[k] then write(k, at[k], whole[k], rest[k], drip[k], period[k], cells[k]) end
end
values[count + 1] = now
return values
