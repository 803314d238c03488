-- Queues one job, once.
-- KEYS  1 job record (hash)   2 lane (stream)
-- ARGV  1 now (unix ms)   2 version   3 digest of the request, or empty   4.. fields of the entry
-- Returns the entry's id; 0 when a job with this id exists, -1 when that has another digest.
if redis.call("EXISTS", KEYS[1]) == 1 then
  return (redis.call("HGET", KEYS[1], "digest") or "") == ARGV[3] and 0 or -1
end
local entry = redis.call("XADD", KEYS[2], "*", unpack(ARGV, 4))
redis.call("HSET", KEYS[1], "state", "queued", "version", ARGV[2], "queued", ARGV[1],
  "lane", KEYS[2], "entry", entry)
if ARGV[3] ~= "" then
  redis.call("HSET", KEYS[1], "digest", ARGV[3])
end
return entry
