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
-- KEY "marq:{MODEL}:body:ID" (string): the body of a job, if its entry has the reference "body:ID". It lasts as long
-- as the job may run, also by a retry by hand: its size is then the field `body_bytes` of the record.
-- KEY "marq:{MODEL}:body-bytes:VERSION" (string): the bytes of the bodies of jobs that have not ended, of these keys.
-- KEY "marq:{MODEL}:holders" (sorted set): "REF letter ID" and "REF job ID": who needs the file of a body besides
-- the job that it was written for.
local WAITING = {"scheduled", "high", "normal", "low"}
local MOST_TRIMMED = 200 -- in one call: more follow with the next
local MOST_MOVED = 1000 -- ids in one command: Lua passes no more than about 8000 values

local index = {}

function index.text(number)
  return string.format("%.0f", number)
end

-- Unix microseconds.
function index.now()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- The beginning of the model's keys.
function index.head(lane)
  return string.match(lane, "^(.-}:)")
end

-- The beginning of the model's keys, and the id of the job.
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

-- Adds jobs that wait: to the set `scheduled`, or to that of their priority. `members`: moment, id, moment, id, ...
function index.add(head, name, tags, version, members)
  local sets = sets_of(head, name, tags, version)
  for _, set in ipairs(sets) do
    redis.call("ZADD", set, unpack(members))
  end
  if redis.call("ZCARD", sets[1]) <= #members / 2 then -- they may be the only ones
    redis.call("ZADD", head .. "jobs:versions", "+inf", version)
    redis.call("PERSIST", head .. "jobs:versions")
  end
  ends.begin(head, tags, #members / 2)
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

-- Makes the record of a pending entry that a producer queued without one.
function index.ensure(record, lane, entry, version, queued)
  if redis.call("EXISTS", record) == 0 then
    redis.call("HSET", record, "state", "queued", "version", version, "queued", queued,
      "priority", index.priority(lane), "lane", lane, "entry", entry)
    local head, id = index.split(record)
    index.add(head, index.priority(lane), "", version, {index.text(queued * 1000), id})
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

-- Whether a reference names a file of jobs, which outlives the request.
function index.is_kept(ref)
  return string.find(ref, "^job%-") ~= nil
end

local function count_body(head, version, bytes)
  local total = head .. "body-bytes:" .. version
  if redis.call("INCRBY", total, bytes) <= 0 then
    redis.call("DEL", total)
  end
end

-- Keeps the body of a job in a key; returns its reference.
function index.keep_body(head, id, version, body)
  local ref = "body:" .. id
  redis.call("SET", head .. ref, body)
  redis.call("HSET", head .. "job:" .. id, "body_bytes", #body)
  count_body(head, version, #body)
  return ref
end

-- Whether the body of a job that is to run again is still there, where that is a key.
function index.resume_body(record, version)
  local head, id = index.split(record)
  local bytes = redis.call("HGET", record, "body_bytes")
  if not bytes then
    return true
  elseif redis.call("PERSIST", head .. "body:" .. id) == 0 then
    return false
  end
  count_body(head, version, bytes)
  return true
end

-- The job has ended: its body goes, unless the job can be retried by hand while its record lasts.
local function end_body(head, id, job, state, ttl)
  count_body(head, job.version, -job.body_bytes)
  if state == "succeeded" or state == "cancelled" then
    redis.call("UNLINK", head .. "body:" .. id)
  else
    redis.call("PEXPIRE", head .. "body:" .. id, ttl)
  end
end

-- Notes that a letter or a job needs the file of a body. `holder`: "letter ID" or "job ID".
function index.hold(head, ref, holder)
  redis.call("ZADD", head .. "holders", 0, ref .. " " .. holder)
end

-- Takes finished jobs whose records have expired out of the index.
function index.trim(head, now_ms)
  local expiries = head .. "jobs:ends"
  local gone = redis.call("ZRANGEBYSCORE", expiries, "-inf", index.text(now_ms), "LIMIT", 0, MOST_TRIMMED)
  for _, member in ipairs(gone) do
    local name, tags, version, id = string.match(member, "^(%S+) (%S*) (%S*) (.*)$")
    for _, set in ipairs(sets_of(head, name, tags, version)) do
      redis.call("ZREM", set, id)
    end
    redis.call("ZREM", expiries, member)
  end
  if #gone > 0 then
    redis.call("ZREMRANGEBYSCORE", head .. "jobs:versions", "-inf", index.text(now_ms))
  end
end

-- What the record says about the job's place in the index. It may lack what older versions did not write.
function index.job(record, default_version)
  local state, priority, tags, version, ttl, webhook, body_bytes = unpack(
    redis.call("HMGET", record, "state", "priority", "tags", "version", "ttl", "webhook", "body_bytes"))
  return {record = record, state = state, set = state == "scheduled" and state or priority or "normal",
    tags = tags or "", version = version or default_version or "", ttl = ttl, has_version = version,
    webhook = webhook, body_bytes = body_bytes}
end

-- When a job was submitted that is not in the index.
local function moment_of(record, now_ms)
  return index.text((tonumber(redis.call("HGET", record, "queued") or nil) or now_ms) * 1000)
end

-- Moves the jobs of a group to the set of their final state.
local function move_finished(group)
  local job, head, ids, longest = group.job, group.head, group.ids, 0
  local from = sets_of(head, job.set, job.tags, job.version)
  local to = sets_of(head, group.state, job.tags, job.version)
  local moments, members, expiries = redis.call("ZMSCORE", from[1], unpack(ids)), {}, {}
  local about = group.state .. " " .. job.tags .. " " .. job.version .. " "
  local times = {} -- when records expire, by their time to live
  for i, id in ipairs(ids) do
    local ttl = group.ttls[i]
    times[ttl] = times[ttl] or index.text(group.now_ms + ttl)
    members[2 * i - 1], members[2 * i] = moments[i] or moment_of(head .. "job:" .. id, group.now_ms), id
    expiries[2 * i - 1], expiries[2 * i] = times[ttl], about .. id
    longest = math.max(longest, ttl)
  end
  for i = 1, #to do
    redis.call("ZREM", from[i], unpack(ids))
    redis.call("ZADD", to[i], unpack(members))
    lengthen(to[i], longest)
  end
  redis.call("ZADD", head .. "jobs:ends", unpack(expiries))
  lengthen(head .. "jobs:ends", longest)
  index.trim(head, group.now_ms)
  note_version(head, job.version, group.now_ms, longest)
  ends.count(head, job.tags, #ids, group.state, index.text(group.now_ms))
end

local group -- finished jobs that leave the same set for the same set

local function is_of_group(job, state)
  return group and group.state == state and group.job.set == job.set and group.job.tags == job.tags
    and group.job.version == job.version and #group.ids < MOST_MOVED
end

-- The bytes of the body of an entry with these fields.
function index.size_of(fields)
  return index.field(fields, "size") or #(index.field(fields, "body") or "")
end

-- Ends a job of `index.job`, whose record exists and has its answer; `index.settle` takes it to the set of its final
-- state. `ttl` is that of a record without its own; `status` is that of its answer, if it has one; `request_bytes` may
-- be unknown.
function index.finish(job, state, now_ms, ttl, status, request_bytes)
  local head, id = index.split(job.record)
  if not is_of_group(job, state) then
    index.settle()
    group = {head = head, job = job, state = state, now_ms = now_ms, ids = {}, ttls = {}}
  end
  local place = #group.ids + 1
  group.ids[place], group.ttls[place] = id, tonumber(job.ttl or ttl)
  redis.call("PEXPIRE", job.record, job.ttl or ttl)
  if job.body_bytes then
    end_body(head, id, job, state, job.ttl or ttl)
  end
  ends.log(head, id, job, state, index.text(now_ms), status, request_bytes)
  if job.webhook then
    ends.announce(head, id, job, state, index.text(now_ms), status)
  end
end

-- Completes the calls of `index.finish`.
function index.settle()
  if group then
    move_finished(group)
    group = nil
  end
end

-- Moves a finished job back to the set of its priority.
function index.resume(record, state, priority, tags, version)
  local head, id = index.split(record)
  index.move(record, state, priority, tags, version)
  redis.call("ZREM", head .. "jobs:ends", state .. " " .. tags .. " " .. version .. " " .. id)
  redis.call("ZADD", head .. "jobs:versions", "+inf", version)
  redis.call("PERSIST", head .. "jobs:versions")
  ends.begin(head, tags, 1, state)
end

