-- Queues one job, once; or schedules it, if its field `not_before` (unix ms) lies ahead.
-- KEYS  1 job record (hash)   2 lane (stream)
-- ARGV  1 now (unix ms)   2 version   3 digest of the request, or empty   4.. fields of the entry
-- Fields that are read here: `tags`, `not_before`, `result_ttl` (ms).
-- Returns the entry's id, or "scheduled"; 0 when a job with this id exists, -1 when that has another digest.
if redis.call("EXISTS", KEYS[1]) == 1 then
  return (redis.call("HGET", KEYS[1], "digest") or "") == ARGV[3] and 0 or -1
end
local now, priority, given = index.now(), index.priority(KEYS[2]), {}
for i = 4, #ARGV, 2 do
  given[ARGV[i]] = ARGV[i + 1]
end
local tags, due = given.tags or "", tonumber(given.not_before)
local waits = due and due * 1000 > now
local entry = waits and "scheduled" or redis.call("XADD", KEYS[2], "*", unpack(ARGV, 4))
redis.call("HSET", KEYS[1], "state", "queued", "version", ARGV[2], "queued", ARGV[1], "priority", priority,
  "lane", KEYS[2], "entry", entry)
if tags ~= "" then
  redis.call("HSET", KEYS[1], "tags", tags)
end
if given.result_ttl then
  redis.call("HSET", KEYS[1], "ttl", given.result_ttl)
end
if ARGV[3] ~= "" then
  redis.call("HSET", KEYS[1], "digest", ARGV[3])
  index.trim(index.split(KEYS[1]), math.floor(now / 1000)) -- of a record that had this id, and has expired
end
if waits then
  index.schedule(KEYS[1], ARGV[2], {unpack(ARGV, 4)}, due)
end
index.add(KEYS[1], waits and "scheduled" or priority, tags, ARGV[2], now)
return entry
