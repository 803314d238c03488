-- Queues a failed or expired job again, with its id. Its deadline and the time before which it was not to start
-- have passed: they are left out.
-- KEYS  1 job record (hash)   2 parts (list)
-- ARGV  1 version, whose lanes exist
-- Returns 1 if it was queued, 0 if it is in another state, -1 if its entry was not kept, nil if it is unknown.
local state, request, priority, tags, version = unpack(
  redis.call("HMGET", KEYS[1], "state", "request", "priority", "tags", "version"))
if not state then
  return nil
elseif state ~= "failed" and state ~= "expired" then
  return 0
elseif not request or version ~= ARGV[1] or not index.resume_body(KEYS[1], version) then
  return -1
end
priority, tags = priority or "normal", tags or ""
local fields = index.without(cmsgpack.unpack(request), "attempts", "deadline", "not_before")
redis.call("HDEL", KEYS[1], "request", "retried", "attempts", "device", "started", "finished", "status", "headers",
  "body", "body_ref", "rows", "streamed", "progress")
callers.put(KEYS[1], priority, tags, version, fields)
redis.call("PERSIST", KEYS[1])
redis.call("DEL", KEYS[2])
index.resume(KEYS[1], state, priority, tags, version)
return 1
