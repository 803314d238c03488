-- Ends the tries of nodes that have taken too long: each is tried again, or fails its run.
-- KEYS  1 runs of a workflow (sorted set) by the moment at which a try may be over
-- ARGV  1 how many of them at most
-- Returns how many tries have ended.
local head = string.match(KEYS[1], "^(.-}:)due$")
local now, ended = math.floor(index.now() / 1000), 0
local due = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", index.text(now), "LIMIT", 0, ARGV[1])
for _, member in ipairs(due) do
  redis.call("ZREM", KEYS[1], member)
  ended = ended + runs.end_overdue(head .. string.match(member, "^%S+"), now)
end
run_record.settle()
return ended
