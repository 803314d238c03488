-- Deletes lanes, if nothing is in them.
-- KEYS  lanes (streams)
-- Returns 1, or 0 where a lane has an entry, or a job is held back: then all lanes stay.
local head, version = string.match(KEYS[1], "^(.-}:)[^:]+:(.*)$")
if redis.call("EXISTS", head .. "held-counts:" .. version) == 1 then
  return 0
end
for _, lane in ipairs(KEYS) do
  if redis.call("XLEN", lane) > 0 then
    return 0
  end
end
redis.call("DEL", unpack(KEYS))
return 1
