-- Ends the tries of nodes that have taken too long: each is tried again, or fails its run.
-- KEYS  1 due tries of a workflow (sorted set)
-- ARGV  1 how many at most
-- Returns how many have ended.
local head = string.match(KEYS[1], "^(.-}:)due$")
local due = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", index.text(math.floor(index.now() / 1000)), "LIMIT", 0, ARGV[1])
for _, member in ipairs(due) do
  local record, name = string.match(member, "^(%S+) (.*)$")
  redis.call("ZREM", KEYS[1], member)
  runs.time_out(head .. record, name)
end
return #due
