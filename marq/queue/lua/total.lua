-- How many entries a stream has, and how many it has ever had. Changes nothing.
-- KEYS  1 stream
-- Returns {entries, entries ever added (-1: unknown; Redis before 7 does not count them)}.
if redis.call("EXISTS", KEYS[1]) == 0 then
  return {0, 0}
end
local facts = redis.call("XINFO", "STREAM", KEYS[1])
local added = -1
for i = 1, #facts, 2 do
  if facts[i] == "entries-added" then
    added = facts[i + 1]
  end
end
return {redis.call("XLEN", KEYS[1]), added}
