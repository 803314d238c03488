-- Sends a message of a webhook once more, with its id, and from the first delay on.
-- KEYS  1 due (sorted set)   2 failed (sorted set)   3 message (hash)
-- ARGV  1 id
-- Returns 1; 0 if the message is unknown: it was delivered, or is not kept any more.
if redis.call("EXISTS", KEYS[3]) == 0 then
  return 0
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call("ZREM", KEYS[2], ARGV[1])
redis.call("HDEL", KEYS[3], "tries", "error")
redis.call("PERSIST", KEYS[3])
redis.call("ZADD", KEYS[1], string.format("%d", now), ARGV[1])
return 1
