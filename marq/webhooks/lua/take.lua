-- Takes messages of webhooks that are due, for so long that they are sent meanwhile. If their sender ends before it
-- says how that went, they are due again after that time, with their ids.
-- KEYS  1 due (sorted set)
-- ARGV  1 how long (ms)   2 how many   3 key prefix of messages
-- Returns {id, fields} of each.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local taken = {}
for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", string.format("%d", now), "LIMIT", 0, ARGV[2])) do
  local fields = redis.call("HGETALL", ARGV[3] .. id)
  if #fields == 0 then
    redis.call("ZREM", KEYS[1], id)
  else
    redis.call("HINCRBY", ARGV[3] .. id, "tries", 1)
    redis.call("ZADD", KEYS[1], string.format("%d", now + ARGV[1]), id)
    taken[#taken + 1] = {id, fields}
  end
end
return taken
