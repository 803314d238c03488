-- Deletes lanes, if nothing is in them.
-- KEYS  lanes (streams)
-- Returns 1, or 0 where a lane has an entry: then all lanes stay.
for _, lane in ipairs(KEYS) do
  if redis.call("XLEN", lane) > 0 then
    return 0
  end
end
redis.call("DEL", unpack(KEYS))
return 1
