-- Takes requests that no replica has taken, and whose deadline has passed, in the name of a consumer.
-- KEYS  1 lane (stream)
-- ARGV  1 group   2 consumer   3 now (unix ms)   4 first entry to look at   5 how many
-- Returns {first entry of the next look, {entry, fields} ...}; the next look starts again with "-".
local entries = redis.call("XRANGE", KEYS[1], ARGV[4], "+", "COUNT", ARGV[5])
local found = {#entries == tonumber(ARGV[5]) and "(" .. entries[#entries][1] or "-"}

local function is_late(fields)
  for i = 1, #fields, 2 do
    if fields[i] == "deadline" then
      return (tonumber(fields[i + 1]) or math.huge) < tonumber(ARGV[3])
    end
  end
end

-- Whether the entry has not been delivered; one that an earlier look took, but did not answer, counts, too.
local function is_free(entry)
  local held = redis.call("XPENDING", KEYS[1], ARGV[1], entry, entry, 1)
  return #held == 0 or (held[1][2] == ARGV[2] and held[1][3] > 10000)
end

for _, entry in ipairs(entries) do
  if is_late(entry[2]) and is_free(entry[1]) then
    redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[2], 0, entry[1], "FORCE", "JUSTID")
    found[#found + 1] = entry
  end
end
return found
