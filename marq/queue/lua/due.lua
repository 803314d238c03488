-- Moves scheduled jobs that are due, and held jobs for which there is room, to their lanes. Closes groups whose
-- gateway has ended during their upload.
-- KEYS  1 scheduled jobs of a version (sorted set)
-- ARGV  1 1: also those that are not due yet, and all held ones   2 how many at most
-- Returns how many were moved.
local head, version = string.match(KEYS[1], "^(.-}:)scheduled:(.*)$")
local last = ARGV[1] == "1" and "+inf" or index.text(math.floor(index.now() / 1000))
local due = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", last, "LIMIT", 0, ARGV[2])
for _, id in ipairs(due) do
  local record = head .. "job:" .. id
  local state, request, lane, priority, tags = unpack(
    redis.call("HMGET", record, "state", "request", "lane", "priority", "tags"))
  redis.call("ZREM", KEYS[1], id)
  if state == "scheduled" and request then
    redis.call("HDEL", record, "due")
    priority = priority or index.priority(lane)
    callers.put(record, priority, tags or "", version, cmsgpack.unpack(request))
    index.move(record, "scheduled", priority, tags or "", version)
  end
end
ends.close_lost(head, index.text(math.floor(index.now() / 1000)))
callers.release_late(head, version, index.now() / 1000)
return #due + callers.fill(head, version, ARGV[1] == "1" and tonumber(ARGV[2]) or 1)
