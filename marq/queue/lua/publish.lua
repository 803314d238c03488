-- Publishes the results of jobs, each only if its entry is still pending: the entries of a replica that
-- was presumed lost belong to another one, and its results are dropped. A finished job keeps its result: a
-- producer may have queued the same id twice.
-- KEYS  lane (stream), job record (hash), for each job
-- ARGV  1 group   2 time to live (ms)   3 channel of finished jobs   4 version   5 device   6 finished (unix ms)
--       7 rows of the batch   then, for each job: entry, id, state, attempts, queued, started, status, headers,
--       body, `body` or `body_ref`: the field of the record with it
-- State `buried` is `failed` without another try. A job that the handler failed is tried again as its entry asks:
-- `retries` times at most, for the statuses in `retry_on`, after `retry_delay` ms, then twice as long, and so on.
-- The record of a job that has failed or expired keeps its entry, so that it can be retried by hand.
-- Returns how many were published or are tried again.
local FIRST, WIDTH = 8, 10
local RETRIED = "429,500,502,503,504" -- statuses
local LONGEST_DELAY = 3600000 -- ms
local MOST_VALUES = 7000 -- of an entry: Lua passes no more than about 8000 to a command
local MOST_IDS = 1000 -- in one command
local done, moment = {}, index.now()
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

-- Writes what the record lacks where a producer queued the job without one.
local function complete(job, at)
  if not job.has_version then
    redis.call("HSET", job.record, "version", ARGV[4])
    redis.call("HSETNX", job.record, "queued", ARGV[at + 4])
  end
end

local function retry(job, lane, fields, at, delay)
  local record = job.record
  local priority = job.state and job.set or index.priority(lane)
  local home = string.match(lane, "^(.-}:)") .. priority .. ":" .. ARGV[4]
  if not job.state then -- a producer queued it without a record
    index.add(index.head(lane), priority, "", ARGV[4], {index.text(moment), ARGV[at + 1]})
  end
  index.schedule(record, ARGV[4], index.without(fields, "attempts"), now + delay)
  redis.call("HSET", record, "version", ARGV[4], "priority", priority, "lane", home, "status", ARGV[at + 6])
  redis.call("HINCRBY", record, "retried", 1)
  redis.call("HDEL", record, "streamed", "progress")
  index.move(record, priority, "scheduled", job.tags, ARGV[4])
end

local function finish(job, fields, at)
  local state = ARGV[at + 2] == "buried" and "failed" or ARGV[at + 2]
  redis.call("HSET", job.record, "state", state, "device", ARGV[5], "attempts", ARGV[at + 3],
    "started", ARGV[at + 5], "finished", ARGV[6], "status", ARGV[at + 6], "headers", ARGV[at + 7],
    ARGV[at + 9], ARGV[at + 8], "rows", ARGV[7])
  complete(job, at)
  if fields and #fields <= MOST_VALUES then
    redis.call("HSET", job.record, "request", cmsgpack.pack(fields))
  end
  index.finish(job, state, now, ARGV[2], ARGV[at + 6])
end

-- The fields of entries whose jobs have not succeeded, by their number; they are read before the entries go.
local function read()
  local found = {}
  for i = 1, #KEYS / 2 do
    local at = FIRST + (i - 1) * WIDTH
    if ARGV[at + 2] ~= "succeeded" then
      local entry = redis.call("XRANGE", KEYS[2 * i - 1], ARGV[at], ARGV[at])[1]
      found[i] = entry and entry[2]
    end
  end
  return found
end

-- Takes the entries that are pending out of their lanes; returns a table with their numbers.
local function take()
  local held, entries, lane = {}, {}, KEYS[1]
  for i = 1, #KEYS / 2 do
    local entry = ARGV[FIRST + (i - 1) * WIDTH]
    if #entries > 0 and (KEYS[2 * i - 1] ~= lane or #entries == MOST_IDS) then
      redis.call("XDEL", lane, unpack(entries))
      entries = {}
    end
    lane = KEYS[2 * i - 1]
    if redis.call("XACK", lane, ARGV[1], entry) == 1 then
      held[i], entries[#entries + 1] = true, entry
    end
  end
  if #entries > 0 then
    redis.call("XDEL", lane, unpack(entries))
  end
  return held
end

local found, held = read(), take()
for i = 1, #KEYS / 2 do
  local lane, at = KEYS[2 * i - 1], FIRST + (i - 1) * WIDTH
  local job = held[i] and index.job(KEYS[2 * i], ARGV[4])
  if job and (job.state or "queued") == "queued" then
    local fields = found[i]
    local ran = ARGV[at + 2] == "failed" and ARGV[at + 5] ~= ""
    local delay = ran and fields and #fields <= MOST_VALUES and delay_of(fields, job.record, ARGV[at + 6], i)
    if delay then
      complete(job, at)
      retry(job, lane, fields, at, delay)
    else
      finish(job, fields, at)
    end
    done[#done + 1] = ARGV[at + 1]
  end
end
if #done > 0 then
  index.settle()
  callers.fill(index.head(KEYS[1]), ARGV[4], 0)
  redis.call("PUBLISH", ARGV[3], table.concat(done, " "))
end
return #done
