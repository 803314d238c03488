-- Queues one job, once.
-- KEYS  1 job record (hash)   2 lane (stream)
-- ARGV  1 now (unix ms)   2 version   3.. fields of the entry
-- Returns the entry's id, or nil when a job with this id exists.
if redis.call("EXISTS", KEYS[1]) == 1 then
  return nil
end
local entry = redis.call("XADD", KEYS[2], "*", unpack(ARGV, 3))
redis.call("HSET", KEYS[1], "state", "queued", "version", ARGV[2], "queued", ARGV[1],
  "lane", KEYS[2], "entry", entry)
return entry
