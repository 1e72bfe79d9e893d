-- Keeps the places of a ticket. KEYS: the ticket's, then each meter's. ARGV: the ticket, a place's time to live.
for index = 2, #KEYS do
  if redis.call('ZADD', KEYS[index], 'XX', 'CH', now + tonumber(ARGV[2]), ARGV[1]) > 0 then
    redis.call('PEXPIRE', KEYS[index], ARGV[2])
  end
end
