-- The index of a model's jobs, for the scripts that change or read their states: this text precedes theirs.
-- KEY "marq:{MODEL}:jobs:SET:TAG:VERSION" (sorted set): ids of jobs by the moment of their submission (unix
-- microseconds of Redis's clock). SET is `high`, `normal` or `low` for queued jobs, by their priority, else the
-- state. TAG is empty for the set of all jobs.
-- KEY "marq:{MODEL}:scheduled:VERSION" (sorted set): ids of scheduled jobs by the moment when they are due (unix
-- ms). Their entries are the field `request` of their records.
-- KEY "marq:{MODEL}:jobs:ends" (sorted set): "SET TAGS VERSION ID" of finished jobs by the moment when their
-- record expires (unix ms); TAGS are separated by commas.
-- KEY "marq:{MODEL}:jobs:versions" (sorted set): versions by the moment when the record of their last job
-- expires; infinite while a job of theirs has not finished.
-- All these keys expire with the last record.
local WAITING = {"scheduled", "high", "normal", "low"}
local MOST_TRIMMED = 200 -- in one call: more follow with the next

local index = {}

function index.text(number)
  return string.format("%.0f", number)
end

-- Unix microseconds.
function index.now()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- What the keys of the model begin with, and the id of the job.
function index.split(record)
  local at = string.find(record, "}:job:", 1, true)
  return string.sub(record, 1, at + 1), string.sub(record, at + 6)
end

function index.set(head, name, tag, version)
  return head .. "jobs:" .. name .. ":" .. tag .. ":" .. version
end

-- The value of a field in a flat list of names and values; the last one counts.
function index.field(fields, name)
  local value
  for i = 1, #fields, 2 do
    if fields[i] == name then
      value = fields[i + 1]
    end
  end
  return value
end

-- Tags are separated by commas. The first set is that of all jobs.
local function sets_of(head, name, tags, version)
  local sets = {index.set(head, name, "", version)}
  if tags == "" then
    return sets
  end
  for tag in string.gmatch(tags, "[^,]+") do
    sets[#sets + 1] = index.set(head, name, tag, version)
  end
  return sets
end

-- The priority that the name of a lane says.
function index.priority(lane)
  return string.find(lane, "}:high:", 1, true) and "high" or string.find(lane, "}:low:", 1, true) and "low"
    or "normal"
end

local lengthened = {} -- times to live by key, in this call

local function lengthen(key, ttl)
  if (lengthened[key] or 0) < ttl then
    lengthened[key] = ttl
    if redis.call("PTTL", key) < ttl then
      redis.call("PEXPIRE", key, index.text(ttl))
    end
  end
end

local function is_waiting(head, version)
  local sets = {}
  for i, name in ipairs(WAITING) do
    sets[i] = index.set(head, name, "", version)
  end
  return redis.call("EXISTS", unpack(sets)) > 0
end

local function note_version(head, version, now_ms, ttl)
  local versions = head .. "jobs:versions"
  if is_waiting(head, version) then
    return
  end
  redis.call("ZADD", versions, index.text(now_ms + ttl), version)
  local last = redis.call("ZRANGE", versions, -1, -1, "WITHSCORES")[2]
  if last ~= "inf" then
    lengthen(versions, ttl)
  end
end

-- Adds a job that waits: in the set `scheduled`, or in that of its priority.
function index.add(record, name, tags, version, submitted)
  local head, id = index.split(record)
  local sets, moment = sets_of(head, name, tags, version), index.text(submitted)
  for _, set in ipairs(sets) do
    redis.call("ZADD", set, moment, id)
  end
  if redis.call("ZCARD", sets[1]) == 1 then
    redis.call("ZADD", head .. "jobs:versions", "+inf", version)
    redis.call("PERSIST", head .. "jobs:versions")
  end
end

-- Moves a job from the set of one state in which it waits to that of another.
function index.move(record, from, to, tags, version)
  local head, id = index.split(record)
  local sets = sets_of(head, to, tags, version)
  for i, set in ipairs(sets_of(head, from, tags, version)) do
    redis.call("ZADD", sets[i], redis.call("ZSCORE", set, id) or index.text(index.now()), id)
    redis.call("ZREM", set, id)
  end
end

-- Keeps the entry of a job in its record, until it is due.
function index.schedule(record, version, fields, due)
  local head, id = index.split(record)
  redis.call("HSET", record, "state", "scheduled", "request", cmsgpack.pack(fields), "due", index.text(due))
  redis.call("HDEL", record, "entry")
  redis.call("ZADD", head .. "scheduled:" .. version, index.text(due), id)
end

-- The fields of an entry without those of these names.
function index.without(fields, ...)
  local left, out = {}, {}
  for _, name in ipairs({...}) do
    out[name] = true
  end
  for i = 1, #fields, 2 do
    if not out[fields[i]] then
      left[#left + 1], left[#left + 2] = fields[i], fields[i + 1]
    end
  end
  return left
end

-- Takes finished jobs whose records have expired out of the index.
function index.trim(head, now_ms)
  local ends = head .. "jobs:ends"
  local gone = redis.call("ZRANGEBYSCORE", ends, "-inf", index.text(now_ms), "LIMIT", 0, MOST_TRIMMED)
  for _, member in ipairs(gone) do
    local name, tags, version, id = string.match(member, "^(%S+) (%S*) (%S*) (.*)$")
    for _, set in ipairs(sets_of(head, name, tags, version)) do
      redis.call("ZREM", set, id)
    end
    redis.call("ZREM", ends, member)
  end
  if #gone > 0 then
    redis.call("ZREMRANGEBYSCORE", head .. "jobs:versions", "-inf", index.text(now_ms))
  end
end

-- Moves a job that waits to the set of its final state. Its record may lack what older versions did not write.
-- `ttl` is that of a record without its own; returns the one that holds. Call `index.settle` after the last one.
function index.finish(record, state, now_ms, ttl, default_version)
  local head, id = index.split(record)
  local was, priority, tags, version, queued, own = unpack(
    redis.call("HMGET", record, "state", "priority", "tags", "version", "queued", "ttl"))
  tags, version, ttl = tags or "", version or default_version or "", tonumber(own) or ttl
  local name = was == "scheduled" and was or priority or "normal"
  local from, to = sets_of(head, name, tags, version), sets_of(head, state, tags, version)
  local submitted = redis.call("ZSCORE", from[1], id) or index.text((tonumber(queued) or now_ms) * 1000)
  for i = 1, #to do
    redis.call("ZREM", from[i], id)
    redis.call("ZADD", to[i], submitted, id)
    lengthen(to[i], ttl)
  end
  local ends = head .. "jobs:ends"
  redis.call("ZADD", ends, index.text(now_ms + ttl), state .. " " .. tags .. " " .. version .. " " .. id)
  lengthen(ends, ttl)
  redis.call("PEXPIRE", record, index.text(ttl))
  return ttl
end

-- Moves a finished job back to the set of its priority.
function index.resume(record, state, priority, tags, version)
  local head, id = index.split(record)
  index.move(record, state, priority, tags, version)
  redis.call("ZREM", head .. "jobs:ends", state .. " " .. tags .. " " .. version .. " " .. id)
  redis.call("ZADD", head .. "jobs:versions", "+inf", version)
  redis.call("PERSIST", head .. "jobs:versions")
end

-- `ttl`: the longest of those that `index.finish` has returned.
function index.settle(record, version, now_ms, ttl)
  local head = index.split(record)
  index.trim(head, now_ms)
  note_version(head, version, now_ms, ttl)
end

