-- Queues a request of a sequence for the replica that has the sequence; the first request chooses one. Behind
-- requests that no replica has been given yet, and where no replica is ready, it waits in the lane.
-- KEYS  1 seats (sorted set)   2 lane (stream)   3.. all lanes
-- ARGV  1 id of the sequence   2 1: its last request   3 limits: queued   4 sequences   5 idle   6 time-out
--       7.. fields of the entry
-- Returns {lane, entry}; or {0, limit, open sequences} where a limit refuses it: "queued", "sequences".
local keys, limits, now = sequence.keys(KEYS[1]), sequence.limits(3), sequence.now()
sequence.tidy(keys, limits, now)
local fields, waits = {unpack(ARGV, 7)}, false
for i = 3, #KEYS do
  waits = waits or redis.call("XLEN", KEYS[i]) > 0
end
if not waits then
  local record, limit = sequence.find(keys, ARGV[1], limits, now)
  if record then
    return {sequence.add(keys, ARGV[1], record, fields, ARGV[2] == "1", limits, now)}
  elseif limit ~= "seats" then
    return {0, limit, redis.call("HLEN", keys.records)}
  end
end
return {KEYS[2], redis.call("XADD", KEYS[2], "*", unpack(fields))}
