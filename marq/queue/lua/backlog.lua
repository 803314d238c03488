-- How many entries and held jobs wait for each of several model versions, how many have been taken, and how large the
-- lanes are, with the bodies of jobs that are keys. Changes nothing.
-- KEYS  lanes (streams), those of a version after those of another
-- ARGV  1 group   2 nodes of a lane from which its size is estimated   3 lanes of each version
-- Returns {entries that wait, taken entries (-1: unknown), bytes} for each version. Redis before 7 does
-- not count the taken ones, and later ones lose count where entries that no replica had taken were deleted.
local function group(lane)
  local found = {}
  for _, flat in ipairs(redis.call("XINFO", "GROUPS", lane)) do
    local this = {}
    for i = 1, #flat, 2 do
      this[flat[i]] = flat[i + 1]
    end
    if this.name == ARGV[1] then
      found = this
    end
  end
  return found
end

local function backlog(first, last)
  local waiting, taken, bytes, counted = 0, 0, 0, true
  for i = first, last do
    local lane = KEYS[i]
    if redis.call("EXISTS", lane) == 1 then
      local length, replicas = redis.call("XLEN", lane), group(lane)
      waiting = waiting + math.max(0, length - (replicas.pending or 0))
      local read = replicas["entries-read"]
      taken = taken + (read or 0)
      counted = counted and (read or replicas["last-delivered-id"] == "0-0") and true
      if length > 0 then -- an empty stream takes some bytes as well, and many models have many
        bytes = bytes + redis.call("MEMORY", "USAGE", lane, "SAMPLES", ARGV[2])
      end
    end
  end
  local head, version = string.match(KEYS[first], "^(.-}:)[^:]+:(.*)$")
  local held = redis.call("HMGET", head .. "held-counts:" .. version, "high", "normal", "low", "bytes")
  waiting, bytes = waiting + (held[1] or 0) + (held[2] or 0) + (held[3] or 0), bytes + (held[4] or 0)
  bytes = bytes + (redis.call("GET", head .. "body-bytes:" .. version) or 0)
  return {waiting, counted and taken or -1, bytes}
end

local found = {}
for first = 1, #KEYS, tonumber(ARGV[3]) do
  found[#found + 1] = backlog(first, first + ARGV[3] - 1)
end
return found
