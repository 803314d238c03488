-- Queues a request if a replica is idle: it has no request, and will not be given one that waits already.
-- KEYS  1 seats (sorted set)   2 lane (stream)   3.. all lanes
-- ARGV  1 group   2.. fields of the entry
-- Returns {lane, entry}; or {0, "busy", replicas that are ready} where none is idle.
local keys, busy, waiting = sequence.keys(KEYS[1]), {}, 0
for i = 3, #KEYS do
  local pending = redis.call("XPENDING", KEYS[i], ARGV[1])
  waiting = waiting + redis.call("XLEN", KEYS[i]) - pending[1]
  for _, each in ipairs(pending[4] or {}) do
    busy[each[1]] = true
  end
end
local seats, idle = redis.call("ZRANGE", KEYS[1], 0, -1), 0
for _, seat in ipairs(seats) do
  if not busy[redis.call("HGET", keys.owners, seat)] then
    idle = idle + 1
  end
end
if idle - waiting < 1 then
  return {0, "busy", #seats}
end
return {KEYS[2], redis.call("XADD", KEYS[2], "*", unpack(ARGV, 2))}
