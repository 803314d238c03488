-- Notes that a message of a webhook was not taken by its receiver. It is sent again later; or, where it was due for the
-- last time, it is kept as failed.
-- KEYS  1 due (sorted set)   2 failed (sorted set)   3 message (hash)
-- ARGV  1 id   2 ms until the next try; -1: there is none   3 error; empty: it was not even sent   4 how long failed ones are kept (ms)
--       5 how many failed ones are kept   6 key prefix of messages
-- Returns 1; 0 if another try has delivered it. That removes the message first, and then the id.
if redis.call("EXISTS", KEYS[3]) == 0 or not redis.call("ZSCORE", KEYS[1], ARGV[1]) then
  return 0
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[3] == "" then
  redis.call("HINCRBY", KEYS[3], "tries", -1)
else
  redis.call("HSET", KEYS[3], "error", ARGV[3])
end
if ARGV[2] ~= "-1" then
  redis.call("ZADD", KEYS[1], string.format("%d", now + ARGV[2]), ARGV[1])
  return 1
end
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("ZADD", KEYS[2], string.format("%d", now), ARGV[1])
redis.call("PEXPIRE", KEYS[2], ARGV[4])
redis.call("PEXPIRE", KEYS[3], ARGV[4])
redis.call("ZREMRANGEBYSCORE", KEYS[2], "-inf", string.format("%d", now - ARGV[4]))
for _, id in ipairs(redis.call("ZRANGE", KEYS[2], 0, -1 - ARGV[5])) do
  redis.call("ZREM", KEYS[2], id)
  redis.call("DEL", ARGV[6] .. id)
end
return 1
