-- Starts a run of a workflow, once.
-- KEYS  1 record of the run (hash)
-- ARGV  1 digest of the request, or empty   2.. names and values of the fields of the record, in turns
-- Returns 1; 0 if the model of the start node has no lanes: then there is no run. If the run exists: 2, and -1
-- where it has another digest.
local record = KEYS[1]
if redis.call("EXISTS", record) == 1 then
  return (redis.call("HGET", record, "digest") or "") == ARGV[1] and 2 or -1
end
redis.call("HSET", record, "digest", ARGV[1], unpack(ARGV, 2))
if not runs.can_start(record) then
  redis.call("DEL", record)
  return 0
end
local state, priority, tags, version = unpack(redis.call("HMGET", record, "state", "priority", "tags", "version"))
if state then -- it is a job
  local head, id = index.split(record)
  index.add(head, priority, tags, version, {index.text(index.now()), id})
end
local entry = runs.start(record)
if state then
  redis.call("HSET", record, "entry", entry)
end
return 1
