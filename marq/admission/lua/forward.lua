-- Moves requests from a lane without a version to the same lane of the model's default version.
-- KEYS  1 lane without a version (stream)   2 default versions (hash)
-- ARGV  1 model   2 most requests
-- A request without an id keeps the one that its producer knows: that of its entry. Returns how many were
-- moved; none while the model is not registered. A lane that is empty does not stay.
local MOST_VALUES = 7000 -- of one entry: Lua passes no more than about 8000 to a command
local version = redis.call("HGET", KEYS[2], ARGV[1])
local moved = 0
while version and moved < tonumber(ARGV[2]) do
  local found = redis.call("XRANGE", KEYS[1], "-", "+", "COUNT", 1)[1] -- one at a time: bodies may be large
  if not found then
    break
  end
  local fields, has_id = {}, false
  for i = 1, math.min(#found[2], MOST_VALUES), 2 do
    fields[i], fields[i + 1] = found[2][i], found[2][i + 1]
    has_id = has_id or (fields[i] == "id" and fields[i + 1] ~= "")
  end
  if not has_id then
    fields[#fields + 1], fields[#fields + 2] = "id", found[1]
  end
  redis.call("XADD", KEYS[1] .. ":" .. version, "*", unpack(fields))
  redis.call("XDEL", KEYS[1], found[1])
  moved = moved + 1
end
if moved > 0 and redis.call("XLEN", KEYS[1]) == 0 then
  redis.call("DEL", KEYS[1])
end
return moved
