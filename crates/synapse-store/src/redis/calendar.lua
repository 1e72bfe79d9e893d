-- Redis' own time, which is the same for everyone, and the buckets that it falls into. A meter's span is the
-- length of a bucket in milliseconds with how many of them count, or 'month'.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Year and month of a day since 1970, by the calendar of Gregory, with years that begin in March.
local function year_and_month(day)
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local number = month < 10 and month + 3 or month - 9
  return year + era * 400 + (number <= 2 and 1 or 0), number, of_year - math.floor((153 * month + 2) / 5) + 1
end

local function bucket_of(length)
  if length > 0 then return math.floor(now / length) end
  local year, month = year_and_month(math.floor(now / 86400000))
  return year * 12 + month - 1
end

-- When a bucket counts no more. A month's days are found by walking to the next one.
local function release_of(length, reach, bucket)
  if length > 0 then return (bucket + reach) * length end
  local today = math.floor(now / 86400000)
  local _, month, day = year_and_month(today)
  local next = today - day + 29
  while true do
    local _, other = year_and_month(next)
    if other ~= month then return next * 86400000 end
    next = next + 1
  end
end

-- No counter goes beyond this, whatever an engine says it has used: Redis' numbers end at twice as much.
local most = 2 ^ 62

local function text(number) return string.format('%.0f', number) end
