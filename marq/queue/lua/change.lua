-- Changes a record that has a status, in one step.
-- KEYS  1 record (hash)   2 set of unfinished records (sorted set)
-- ARGV  1 the statuses that it may have, separated by commas   2 id of the record if it leaves the set, or empty
--       3.. fields to set: name, value, ...
-- Returns 1; 0 when it has another status or does not exist.
local status = redis.call("HGET", KEYS[1], "status")
if not status or not string.find("," .. ARGV[1] .. ",", "," .. status .. ",", 1, true) then
  return 0
end
redis.call("HSET", KEYS[1], unpack(ARGV, 3))
if ARGV[2] ~= "" then
  redis.call("ZREM", KEYS[2], ARGV[2])
end
return 1
