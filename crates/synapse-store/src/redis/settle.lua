-- Puts what was spent in place of what was reserved, once: the ticket's key says in which buckets that was, and
-- goes with it. KEYS as for a reservation. ARGV: the ticket, then for each meter: bucket length, reach, what was
-- reserved, what was spent.
local known = redis.call('GET', KEYS[1])
if not known then return 0 end
redis.call('DEL', KEYS[1])
local index = 1
for bucket in string.gmatch(known, '[^,]+') do
  index = index + 1
  local at = 2 + (index - 2) * 4
  local key, length, reach = KEYS[index], tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local reserved, spent = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if length < 0 then
    if spent < reserved then redis.call('ZREM', key, ARGV[1]) end
  elseif spent < reserved then
    local counted = tonumber(redis.call('HGET', key, bucket) or '0')
    local back = math.min(counted, reserved - spent)
    if back > 0 then redis.call('HINCRBY', key, bucket, text(-back)) end
  elseif spent > reserved then
    local present = bucket_of(length)
    local room = most - tonumber(redis.call('HGET', key, text(present)) or '0')
    redis.call('HINCRBY', key, text(present), text(math.max(0, math.min(spent - reserved, room))))
    redis.call('PEXPIRE', key, text(release_of(length, reach, present) - now + 60000))
  end
end
return 1
