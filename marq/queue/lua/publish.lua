-- Publishes the results of jobs, each only if its entry is still pending: the entries of a replica that
-- was presumed lost belong to another one, and its results are dropped. A finished job keeps its result: a
-- producer may have queued the same id twice.
-- KEYS  1 lane (stream)   2.. records of the jobs (hashes)
-- ARGV  1 group   2 time to live (ms)   3 channel of finished jobs   4 version   5 device   6 finished (unix ms)
--       7 rows of the batch   8 started (unix ms), or empty   then, for jobs with equal answers but for their bodies:
--       state, attempts, status, headers, `body` or `body_ref`: the field of the record with it, number of the jobs,
--       their entries, their bodies; their records follow each other in KEYS
-- State `buried` is `failed` without another try. A job that the handler failed is tried again as its entry asks:
-- see job_backoff.lua.
-- The record of a job that has failed or expired keeps its entry, so that it can be retried by hand.
-- Returns how many were published or are tried again.
local FIRST, WIDTH = 9, 6
local MOST_VALUES = 7000 -- of an entry: Lua passes no more than about 8000 to a command
local MOST_IDS = 1000 -- in one command
local lane, done, moment = KEYS[1], {}, index.now()
local now = math.floor(moment / 1000)

-- Writes what the record lacks where a producer queued the job without one.
local function complete(job, entry)
  if not job.has_version then
    redis.call("HSET", job.record, "version", ARGV[4])
    redis.call("HSETNX", job.record, "queued", string.match(entry, "^%d+"))
  end
end

local function retry(job, id, fields, status, delay)
  local record = job.record
  local priority = job.state and job.set or index.priority(lane)
  local home = index.head(lane) .. priority .. ":" .. ARGV[4]
  if not job.state then -- a producer queued it without a record
    index.add(index.head(lane), priority, "", ARGV[4], {index.text(moment), id})
  end
  index.schedule(record, ARGV[4], index.without(fields, "attempts"), now + delay)
  redis.call("HSET", record, "version", ARGV[4], "priority", priority, "lane", home, "status", status)
  redis.call("HINCRBY", record, "retried", 1)
  redis.call("HDEL", record, "streamed", "progress")
  index.move(record, priority, "scheduled", job.tags, ARGV[4])
end

-- `at`: where the answer is in ARGV.
local function finish(job, fields, at, entry, body)
  local state = ARGV[at] == "buried" and "failed" or ARGV[at]
  redis.call("HSET", job.record, "state", state, "device", ARGV[5], "attempts", ARGV[at + 1], "started", ARGV[8],
    "finished", ARGV[6], "status", ARGV[at + 2], "headers", ARGV[at + 3], ARGV[at + 4], body, "rows", ARGV[7])
  complete(job, entry)
  if fields and state ~= "succeeded" and #fields <= MOST_VALUES then
    redis.call("HSET", job.record, "request", cmsgpack.pack(fields))
  end
  index.finish(job, state, now, ARGV[2], ARGV[at + 2], fields and index.size_of(fields))
end

-- The fields of entries, by their places in ARGV; they are read before the entries go.
local function read(first, last)
  local found = {}
  for i = first, last do
    local entry = redis.call("XRANGE", lane, ARGV[i], ARGV[i])[1]
    found[i] = entry and entry[2]
  end
  return found
end

-- Takes entries out of their lane; returns a table with the places in ARGV of those that were not pending.
-- `offset`: from the place of an entry to that of its record in KEYS.
local function take(first, last, offset)
  local lost = {}
  for from = first, last, MOST_IDS do
    local to = math.min(from + MOST_IDS - 1, last)
    if redis.call("XACK", lane, ARGV[1], unpack(ARGV, from, to)) == to - from + 1 then
      redis.call("XDEL", lane, unpack(ARGV, from, to))
    else -- an entry that left the group has left the lane, and the record does not name it
      for i = from, to do
        local is_gone = redis.call("XDEL", lane, ARGV[i]) == 0
        local home, entry = unpack(redis.call("HMGET", KEYS[i + offset], "lane", "entry"))
        lost[i] = is_gone and not (home == lane and entry == ARGV[i]) -- ids are those of a lane
      end
    end
  end
  return lost
end

-- Publishes the jobs of one answer. `place`: of the first record in KEYS.
local function publish(at, count, place)
  local first, last = at + WIDTH, at + WIDTH + count - 1
  local offset = place - first
  local needs_fields = ARGV[at] ~= "succeeded" or ends.are_read(index.head(lane))
  local found = needs_fields and read(first, last) or {}
  local lost = take(first, last, offset)
  local ran = ARGV[at] == "failed" and ARGV[8] ~= ""
  for i = first, last do
    local job = not lost[i] and index.job(KEYS[i + offset], ARGV[4])
    if job and (job.state or "queued") == "queued" then
      local fields = found[i]
      local delay = ran and fields and #fields <= MOST_VALUES
        and job_backoff.delay(fields, job.record, ARGV[at + 2], moment + 379 * i)
      local _, id = index.split(job.record)
      if delay then
        complete(job, ARGV[i])
        retry(job, id, fields, ARGV[at + 2], delay)
      else
        finish(job, fields, at, ARGV[i], ARGV[i + count])
      end
      done[#done + 1] = id
    end
  end
end

local at, place = FIRST, 2
while at <= #ARGV do
  local count = tonumber(ARGV[at + WIDTH - 1])
  publish(at, count, place)
  at, place = at + WIDTH + 2 * count, place + count
end
if #done > 0 then
  index.settle()
  callers.fill(index.head(lane), ARGV[4], 0)
  redis.call("PUBLISH", ARGV[3], table.concat(done, " "))
end
return #done
