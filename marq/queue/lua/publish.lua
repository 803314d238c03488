-- Publishes the results of jobs, each only if its entry is still pending: the entries of a replica that
-- was presumed lost belong to another one, and its results are dropped. A finished job keeps its result: a
-- producer may have queued the same id twice.
-- KEYS  lane (stream), job record (hash), for each job
-- ARGV  1 group   2 time to live (ms)   3 channel of finished jobs   4 version   5 device   6 finished (unix ms)
--       then, for each job: entry, id, state, attempts, queued, started, status, headers, body
-- Returns how many were published.
local FIRST, WIDTH = 7, 9
local done, ttl, now = {}, tonumber(ARGV[2]), math.floor(index.now() / 1000)
for i = 1, #KEYS / 2 do
  local lane, record, at = KEYS[2 * i - 1], KEYS[2 * i], FIRST + (i - 1) * WIDTH
  if redis.call("XACK", lane, ARGV[1], ARGV[at]) == 1 then
    redis.call("XDEL", lane, ARGV[at])
    if (redis.call("HGET", record, "state") or "queued") == "queued" then
      redis.call("HSETNX", record, "queued", ARGV[at + 4])
      redis.call("HSETNX", record, "version", ARGV[4])
      index.finish(record, ARGV[at + 2], now, ttl)
      redis.call("HSET", record, "state", ARGV[at + 2], "version", ARGV[4], "device", ARGV[5],
        "attempts", ARGV[at + 3], "started", ARGV[at + 5], "finished", ARGV[6],
        "status", ARGV[at + 6], "headers", ARGV[at + 7], "body", ARGV[at + 8])
      redis.call("PEXPIRE", record, ARGV[2])
      done[#done + 1] = ARGV[at + 1]
    end
  end
end
if #done > 0 then
  index.settle(KEYS[2], ARGV[4], now, ttl)
  redis.call("PUBLISH", ARGV[3], table.concat(done, " "))
end
return #done
