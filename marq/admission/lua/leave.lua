-- A replica takes no new sequences from now on.
-- KEYS  1 seats (sorted set)
-- ARGV  1 seat   2 limits: queued   3 sequences   4 idle   5 time-out
-- Returns how many of its sequences are still open.
local keys, limits, open = sequence.keys(KEYS[1]), sequence.limits(2), 0
sequence.tidy(keys, limits, sequence.now())
redis.call("ZREM", KEYS[1], ARGV[1])
for _, packed in ipairs(redis.call("HVALS", keys.records)) do
  if cmsgpack.unpack(packed).seat == ARGV[1] then
    open = open + 1
  end
end
return open
