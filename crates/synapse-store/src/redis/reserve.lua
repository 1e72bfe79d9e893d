-- Takes from all meters, or from none. KEYS: the ticket's, then each meter's. ARGV: the ticket, its time to
-- live in seconds, a place's time to live in milliseconds, then for each meter: bucket length (0: months,
-- -1: places), reach, limit, amount. Gives: 0 or the number of the meter without room, the wait in
-- milliseconds (-1: for ever), then for each meter what is used and when that ends.
local lease = tonumber(ARGV[3])
local meters, refused, longest = {}, 0, -2
for index = 2, #KEYS do
  local at = 4 + (index - 2) * 4
  local meter = {
    key = KEYS[index], length = tonumber(ARGV[at]), reach = tonumber(ARGV[at + 1]),
    limit = tonumber(ARGV[at + 2]), amount = tonumber(ARGV[at + 3]), given = ARGV[at + 3], used = 0, resets = 0,
  }
  local counted = {}
  if meter.length < 0 then
    redis.call('ZREMRANGEBYSCORE', meter.key, '-inf', now)
    meter.used, meter.resets, meter.bucket = redis.call('ZCARD', meter.key), 1000, 0
  else
    meter.bucket = bucket_of(meter.length)
    local fields = redis.call('HGETALL', meter.key)
    for field = 1, #fields, 2 do
      local bucket, amount = tonumber(fields[field]), tonumber(fields[field + 1])
      if bucket + meter.reach <= meter.bucket then
        redis.call('HDEL', meter.key, fields[field])
      elseif amount > 0 then
        counted[#counted + 1] = { bucket, amount }
        meter.used = meter.used + amount
      end
    end
    table.sort(counted, function(a, b) return a[1] < b[1] end)
    local newest = counted[#counted]
    if newest then meter.resets = release_of(meter.length, meter.reach, newest[1]) - now end
  end
  local function fits(used) return used < meter.limit and used + meter.amount <= meter.limit end
  if not fits(meter.used) then
    local wait = -1
    if meter.length < 0 then
      if fits(0) then wait = 1000 end
    elseif fits(0) then
      local used = meter.used
      for _, part in ipairs(counted) do
        used = used - part[2]
        wait = release_of(meter.length, meter.reach, part[1]) - now
        if fits(used) then break end
      end
    end
    local rank = wait < 0 and math.huge or wait
    if rank > longest then refused, longest, meters.wait = index - 1, rank, wait end
  end
  meters[#meters + 1] = meter
end

local answer = { refused, refused > 0 and meters.wait or 0 }
local buckets = {}
for index, meter in ipairs(meters) do
  if refused == 0 then
    buckets[index] = text(meter.bucket)
    if meter.length < 0 then
      if meter.amount > 0 then redis.call('ZADD', meter.key, now + lease, ARGV[1]) end
      redis.call('PEXPIRE', meter.key, lease)
    else
      if meter.amount > 0 then
        redis.call('HINCRBY', meter.key, text(meter.bucket), meter.given)
        meter.resets = release_of(meter.length, meter.reach, meter.bucket) - now
        redis.call('PEXPIRE', meter.key, text(meter.resets + 60000))
      end
    end
    meter.used = meter.used + meter.amount
  end
  answer[#answer + 1] = math.min(meter.used, most)
  answer[#answer + 1] = meter.resets
end
if refused == 0 then redis.call('SET', KEYS[1], table.concat(buckets, ','), 'EX', ARGV[2]) end
return answer
