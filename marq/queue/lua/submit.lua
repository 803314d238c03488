-- Queues one job, once.
-- KEYS  1 job record (hash)   2 lane (stream)
-- ARGV  1 now (unix ms)   2 version   3 digest of the request, or empty   4.. fields of the entry
-- Returns the entry's id; 0 when a job with this id exists, -1 when that has another digest.
if redis.call("EXISTS", KEYS[1]) == 1 then
  return (redis.call("HGET", KEYS[1], "digest") or "") == ARGV[3] and 0 or -1
end
local now, priority, tags = index.now(), index.priority(KEYS[2]), ""
for i = 4, #ARGV, 2 do
  tags = ARGV[i] == "tags" and ARGV[i + 1] or tags
end
local entry = redis.call("XADD", KEYS[2], "*", unpack(ARGV, 4))
redis.call("HSET", KEYS[1], "state", "queued", "version", ARGV[2], "queued", ARGV[1], "priority", priority,
  "lane", KEYS[2], "entry", entry)
if tags ~= "" then
  redis.call("HSET", KEYS[1], "tags", tags)
end
if ARGV[3] ~= "" then
  redis.call("HSET", KEYS[1], "digest", ARGV[3])
  index.trim(index.split(KEYS[1]), math.floor(now / 1000)) -- of a record that had this id, and has expired
end
index.add(KEYS[1], priority, tags, ARGV[2], now)
return entry
