-- Keeps one streamed part of a job's answer, only if the job's entry is still pending (see publish).
-- KEYS  1 lane (stream)   2 job record (hash)   3 parts (list)
-- ARGV  1 group   2 entry   3 id   4 version   5 queued (unix ms)   6 time to live (ms)   7 channel
--       8 number of the part, from 1   9 how the answer begins (JSON)   10 body
-- The first part drops what an earlier attempt streamed. Returns 1 if the part was kept.
if #redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then
  return 0
end
index.ensure(KEYS[2], KEYS[1], ARGV[2], ARGV[4], ARGV[5])
if ARGV[8] == "1" then
  redis.call("DEL", KEYS[3])
  redis.call("RPUSH", KEYS[3], ARGV[9])
  redis.call("HSET", KEYS[2], "streamed", "1")
elseif redis.call("LLEN", KEYS[3]) ~= tonumber(ARGV[8]) then -- it was sent twice
  return 0
end
redis.call("RPUSH", KEYS[3], ARGV[10])
redis.call("PEXPIRE", KEYS[3], redis.call("HGET", KEYS[2], "ttl") or ARGV[6])
redis.call("PUBLISH", ARGV[7], ARGV[3])
return 1
