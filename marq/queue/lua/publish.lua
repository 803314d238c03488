-- Publishes the results of jobs, each only if its entry is still pending: the entries of a replica that
-- was presumed lost belong to another one, and its results are dropped. A finished job keeps its result: a
-- producer may have queued the same id twice.
-- KEYS  lane (stream), job record (hash), for each job
-- ARGV  1 group   2 time to live (ms)   3 channel of finished jobs   4 version   5 device   6 finished (unix ms)
--       7 rows of the batch   then, for each job: entry, id, state, attempts, queued, started, status, headers,
--       body
-- State `buried` is `failed` without another try. A job that the handler failed is tried again as its entry asks:
-- `retries` times at most, for the statuses in `retry_on`, after `retry_delay` ms, then twice as long, and so on.
-- The record of a job that has failed or expired keeps its entry, so that it can be retried by hand.
-- Returns how many were published or are tried again.
local FIRST, WIDTH = 8, 9
local RETRIED = "429,500,502,503,504" -- statuses
local LONGEST_DELAY = 3600000 -- ms
local MOST_VALUES = 7000 -- of an entry: Lua passes no more than about 8000 to a command
local done, longest, moment = {}, 0, index.now()
local now = math.floor(moment / 1000)

-- The time until the next try in ms; nil if there is none. Its jitter is half of it.
local function delay_of(fields, record, status, place)
  local most = tonumber(index.field(fields, "retries")) or 0
  local retried = tonumber(redis.call("HGET", record, "retried") or 0)
  local statuses = "," .. (index.field(fields, "retry_on") or RETRIED) .. ","
  if retried >= most or not string.find(statuses, "," .. status .. ",", 1, true) then
    return nil
  end
  local delay = (tonumber(index.field(fields, "retry_delay")) or 1000) * 2 ^ retried
  return math.min(delay, LONGEST_DELAY) * (0.5 + (moment + 379 * place) % 1000 / 2000)
end

local function retry(record, lane, fields, at, delay)
  local state, priority, tags = unpack(redis.call("HMGET", record, "state", "priority", "tags"))
  priority = priority or index.priority(lane)
  local home = string.match(lane, "^(.-}:)") .. priority .. ":" .. ARGV[4]
  if not state then -- a producer queued it without a record
    index.add(record, priority, "", ARGV[4], moment)
  end
  index.schedule(record, ARGV[4], index.without(fields, "attempts"), now + delay)
  redis.call("HSET", record, "version", ARGV[4], "priority", priority, "lane", home, "status", ARGV[at + 6])
  redis.call("HINCRBY", record, "retried", 1)
  redis.call("HDEL", record, "streamed")
  index.move(record, priority, "scheduled", tags or "", ARGV[4])
end

local function finish(record, fields, at)
  local state = ARGV[at + 2] == "buried" and "failed" or ARGV[at + 2]
  longest = math.max(longest, index.finish(record, state, now, tonumber(ARGV[2]), ARGV[4]))
  redis.call("HSET", record, "state", state, "version", ARGV[4], "device", ARGV[5],
    "attempts", ARGV[at + 3], "started", ARGV[at + 5], "finished", ARGV[6],
    "status", ARGV[at + 6], "headers", ARGV[at + 7], "body", ARGV[at + 8], "rows", ARGV[7])
  if fields and #fields <= MOST_VALUES then
    redis.call("HSET", record, "request", cmsgpack.pack(fields))
  end
end

for i = 1, #KEYS / 2 do
  local lane, record, at = KEYS[2 * i - 1], KEYS[2 * i], FIRST + (i - 1) * WIDTH
  local found = ARGV[at + 2] ~= "succeeded" and redis.call("XRANGE", lane, ARGV[at], ARGV[at])[1]
  if redis.call("XACK", lane, ARGV[1], ARGV[at]) == 1 then
    redis.call("XDEL", lane, ARGV[at])
    if (redis.call("HGET", record, "state") or "queued") == "queued" then
      local fields = found and found[2]
      local ran = ARGV[at + 2] == "failed" and ARGV[at + 5] ~= ""
      local delay = ran and fields and #fields <= MOST_VALUES and delay_of(fields, record, ARGV[at + 6], i)
      redis.call("HSETNX", record, "queued", ARGV[at + 4])
      if delay then
        retry(record, lane, fields, at, delay)
      else
        finish(record, fields, at)
      end
      done[#done + 1] = ARGV[at + 1]
    end
  end
end
if #done > 0 then
  if longest > 0 then
    index.settle(KEYS[2], ARGV[4], now, longest)
  end
  redis.call("PUBLISH", ARGV[3], table.concat(done, " "))
end
return #done
