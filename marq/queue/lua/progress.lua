-- Keeps how far a job is, only if its entry is still pending (see publish).
-- KEYS  1 lane (stream)   2 job record (hash)
-- ARGV  1 group   2 entry   3 id   4 version   5 queued (unix ms)   6 channel   7 progress
-- Returns 1 if it was kept.
if #redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then
  return 0
end
index.ensure(KEYS[2], KEYS[1], ARGV[2], ARGV[4], ARGV[5])
redis.call("HSET", KEYS[2], "progress", ARGV[7])
redis.call("PUBLISH", ARGV[6], ARGV[3])
return 1
