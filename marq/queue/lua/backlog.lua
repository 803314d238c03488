-- What waits for a model version, how much has been taken so far, and how large it is. Changes nothing.
-- KEYS  lanes (streams)   ARGV  1 group   2 nodes of a lane from which its size is estimated
-- Returns {entries that wait, entries that were taken (-1: unknown), bytes}. Redis before 7 does not count what
-- was taken, and later ones lose count where entries that nobody had taken were deleted.
local waiting, taken, bytes, counted = 0, 0, 0, true

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

for _, lane in ipairs(KEYS) do
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
return {waiting, counted and taken or -1, bytes}
