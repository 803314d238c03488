-- What waits for a model version, how much has been taken so far, and how large it is. Changes nothing.
-- KEYS  lanes (streams)   ARGV  1 group   2 nodes of a lane from which its size is estimated
-- Returns {entries that wait, entries that were taken (-1: Redis, before 7, does not count them), bytes}.
local waiting, taken, bytes = 0, -1, 0

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
    local read = replicas["entries-read"] -- false of a lane that nothing was read from
    if read then
      taken = math.max(0, taken) + read
    end
    if length > 0 then -- an empty stream takes some bytes as well, and many models have many
      bytes = bytes + redis.call("MEMORY", "USAGE", lane, "SAMPLES", ARGV[2])
    end
  end
end
return {waiting, taken, bytes}
