-- A replica has ended, and with it its sequences. The caller answers their requests, and calls again until none is
-- left: then the lane is deleted.
-- KEYS  1 seats (sorted set)
-- ARGV  1 seat   2 group   3 consumer that holds the requests from now on   4 how many at most
-- Returns {entry, fields} of each request.
local keys = sequence.keys(KEYS[1])
redis.call("ZREM", KEYS[1], ARGV[1])
local records = redis.call("HGETALL", keys.records)
for i = 1, #records, 2 do
  local record = cmsgpack.unpack(records[i + 1])
  if record.seat == ARGV[1] then
    sequence.close(keys, records[i], record)
  end
end
local lane = sequence.lane(keys, ARGV[1])
local entries = redis.call("XRANGE", lane, "-", "+", "COUNT", ARGV[4])
if #entries == 0 then
  redis.call("HDEL", keys.owners, ARGV[1])
  redis.call("DEL", lane)
end
for _, item in ipairs(entries) do
  redis.call("XCLAIM", lane, ARGV[2], ARGV[3], 0, item[1], "FORCE", "JUSTID")
end
return entries
