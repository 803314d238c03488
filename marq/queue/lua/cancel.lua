-- Cancels a job: it is not run, or its result is dropped because its entry is gone (see publish).
-- KEYS  1 job record (hash)   2 lane (stream) that the record names
-- ARGV  1 group   2 id   3 now (unix ms)   4 time to live (ms)   5 channel of finished jobs
--       6 1: not if a replica runs it
-- Returns 1 if it was cancelled, 0 if it had finished or runs, nil if it has moved to another lane or is unknown.
local state, lane, entry = unpack(redis.call("HMGET", KEYS[1], "state", "lane", "entry"))
if state and state ~= "queued" and state ~= "scheduled" then
  return 0
end
if lane ~= KEYS[2] then
  return nil
end
if redis.call("HEXISTS", KEYS[1], "plan") == 1 then -- a run of a workflow
  local waits = #redis.call("XRANGE", lane, entry, entry) == 1 and #redis.call("XPENDING", lane, ARGV[1], entry, entry, 1) == 0
  if ARGV[6] == "1" and not waits then
    return 0
  end
  return runs.cancel(KEYS[1]) and 1 or 0
end
local job = index.job(KEYS[1])
if state == "scheduled" then
  local head, id = index.split(KEYS[1])
  redis.call("ZREM", head .. "scheduled:" .. job.version, id)
elseif redis.call("HEXISTS", KEYS[1], "held") == 1 then
  callers.take(KEYS[1], job.version)
elseif ARGV[6] == "1" and #redis.call("XPENDING", KEYS[2], ARGV[1], entry, entry, 1) > 0 then
  return 0
else
  redis.call("XACK", KEYS[2], ARGV[1], entry)
  redis.call("XDEL", KEYS[2], entry)
end
index.finish(job, "cancelled", math.floor(index.now() / 1000), ARGV[4])
index.settle()
redis.call("HDEL", KEYS[1], "request", "due")
redis.call("HSET", KEYS[1], "state", "cancelled", "finished", ARGV[3])
redis.call("PUBLISH", ARGV[5], ARGV[2])
return 1
