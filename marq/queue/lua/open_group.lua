-- Opens a group, or keeps it open: more jobs of it may come.
-- KEYS  1 group (hash)   2 uploads (sorted set)
-- ARGV  1 name   2 for how long (ms)   3 how long the group is kept after its end (ms)   4 version   5 tags
--       6 webhook, or empty
-- What a group with this name has already stays.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if redis.call("EXISTS", KEYS[1]) == 0 then
  redis.call("HSET", KEYS[1], "left", 0, "ttl", ARGV[3], "version", ARGV[4], "tags", ARGV[5])
  if ARGV[6] ~= "" then
    redis.call("HSET", KEYS[1], "webhook", ARGV[6])
  end
end
redis.call("HSET", KEYS[1], "uploading", 1)
redis.call("PERSIST", KEYS[1])
redis.call("ZADD", KEYS[2], string.format("%d", now + ARGV[2]), ARGV[1])
