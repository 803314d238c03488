-- What waits for a model version, and what it has given up. Changes nothing.
-- KEYS  1..n-1 lanes (streams; the first one is the front)   n dead letters (stream)   ARGV  1 group
-- Returns {{waiting entries, age of the oldest one in ms} of each lane, redeliveries, dead letters, all that
-- there have ever been}; the second and the last are -1 where Redis (before 7) does not count them.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function field(list, name)
  for i = 1, #list, 2 do
    if list[i] == name then
      return list[i + 1]
    end
  end
end

local function added(stream)
  if redis.call("EXISTS", stream) == 0 then
    return 0
  end
  return field(redis.call("XINFO", "STREAM", stream), "entries-added") or -1
end

local function waiting(lane)
  if redis.call("EXISTS", lane) == 0 then
    return {0, 0}
  end
  local taken, last = 0, "0-0"
  for _, group in ipairs(redis.call("XINFO", "GROUPS", lane)) do
    if field(group, "name") == ARGV[1] then
      taken, last = field(group, "pending"), field(group, "last-delivered-id")
    end
  end
  local oldest = redis.call("XRANGE", lane, "(" .. last, "+", "COUNT", 1)[1]
  local age = oldest and now - tonumber(string.match(oldest[1], "^%d+")) or 0
  return {math.max(0, redis.call("XLEN", lane) - taken), math.max(0, age)}
end

local lanes = {}
for i = 1, #KEYS - 1 do
  lanes[i] = waiting(KEYS[i])
end
return {lanes, added(KEYS[1]), redis.call("XLEN", KEYS[#KEYS]), added(KEYS[#KEYS])}
