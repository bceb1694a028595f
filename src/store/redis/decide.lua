-- Decides one request: all of its charges together. The arithmetic is that of src/bucket.rs, and
-- what is taken follows src/store/settle.rs.
--
-- KEYS     the buckets, each once
-- ARGV[1]  7 little-endian doubles per key: hits, postpaid (1 or 0), part (0 shadow, 1 must, 2 and up
--          quota groups), capacity, ceiling, drip (0: a window), period in us
-- reply    now in us, then at, whole, part of each bucket at that time, before anything was taken
-- value    5 little-endian doubles: at, whole, part, drip, period
--
-- All numbers are integers below 2^53 and exact in Lua's doubles. A bucket that is full has no key.
local call, pack, unpack_struct, fmod = redis.call, struct.pack, struct.unpack, math.fmod
local EXACT = 9007199254740992 -- 2^53
local LATEST = 1e14            -- ms; Redis takes no expiry beyond 2^63 us

-- x * m / d, as whole and rest, exactly.
local function muldiv(x, m, d)
  local product = x * m
  if product < EXACT then
    local rest = fmod(product, d)
    return (product - rest) / d, rest
  end
  -- Bit by bit of m, highest first: no intermediate value needs more bits than d has, plus one.
  local xrest = fmod(x, d)
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

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local values = call('MGET', unpack(KEYS))
local position = 1
local buckets, reply = {}, {now}

for i = 1, #KEYS do
  local hits, postpaid, part, capacity, ceiling, drip, period
  hits, postpaid, part, capacity, ceiling, drip, period, position =
    unpack_struct('<ddddddd', ARGV[1], position)
  local at, whole, rest, dirty = now, 0, 0, false
  local value = values[i]
  if value and #value == 40 then
    local olddrip, oldperiod
    at, whole, rest, olddrip, oldperiod = unpack_struct('<ddddd', value)
    if now > at then
      if olddrip == 0 then
        local begin = now - fmod(now, oldperiod)
        if begin > at then at = begin; whole = 0; rest = 0 end
      else
        local back, backrest = muldiv(now - at, olddrip, oldperiod)
        at = now
        whole = whole - back
        rest = rest - backrest
        if rest < 0 then rest = rest + oldperiod; whole = whole - 1 end
        if whole < 0 then whole = 0; rest = 0 end
      end
    end
    if whole > 0 or rest > 0 then
      if olddrip ~= drip or oldperiod ~= period then
        dirty = true
        local carried, over = muldiv(rest, period, oldperiod)
        rest = carried
        if over > 0 then rest = rest + 1 end
        if rest >= period then rest = rest - period; whole = whole + 1 end
        if drip == 0 then at = now - fmod(now, period) elseif at < now then at = now end
      end
      if whole >= ceiling and (whole > ceiling or rest > 0) then
        dirty = true
        whole = ceiling
        rest = 0
      end
    else
      dirty = true -- full: forget it, lest a clock that steps back bring it up again
    end
  end
  if whole == 0 and rest == 0 then
    at = now
    if drip == 0 then at = now - fmod(now, period) end
  end
  reply[3 * i - 1] = at
  reply[3 * i] = whole
  reply[3 * i + 1] = rest
  local taken = whole
  if rest > 0 then taken = taken + 1 end
  local need = hits
  if need < 1 then need = 1 end
  buckets[i] = {
    hits = hits, part = part, ceiling = ceiling, drip = drip, period = period,
    at = at, whole = whole, rest = rest, dirty = dirty,
    reported = hits < 0 or postpaid == 1,
    fits = hits < 0 or taken + need <= capacity,
  }
end

local admitted, groups = true, {}
for i = 1, #buckets do
  local b = buckets[i]
  if b.part == 1 then
    admitted = admitted and b.fits
  elseif b.part > 1 then
    groups[b.part] = groups[b.part] ~= false and b.fits
  end
end
if admitted and next(groups) then
  admitted = false
  for _, fits in pairs(groups) do admitted = admitted or fits end
end

for i = 1, #buckets do
  local b = buckets[i]
  local whole, rest = b.whole, b.rest
  if b.reported or (admitted and b.fits) then
    whole = whole + b.hits
    if whole < 0 then whole = 0; rest = 0 end
    if whole >= b.ceiling then whole = b.ceiling; rest = 0 end
  end
  if b.dirty or whole ~= b.whole or rest ~= b.rest then
    if whole == 0 and rest == 0 then
      call('DEL', KEYS[i])
    else
      local full = b.at + b.period
      if b.drip > 0 then full = b.at + (whole * b.period + rest) / b.drip end
      -- Rounded up past what division may have lost; being late only keeps a full bucket a little.
      local expiry = math.min(full / 1000 + 2, LATEST)
      call('SET', KEYS[i], pack('<ddddd', b.at, whole, rest, b.drip, b.period),
        'PXAT', string.format('%.0f', expiry))
    end
  end
end
return reply
