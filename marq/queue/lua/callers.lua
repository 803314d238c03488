-- Callers share the lanes of a version by weight, for the scripts that queue or end jobs: this text follows that of
-- the index. A lane gets a few more entries than replicas take at once; further jobs are held back, each caller's in
-- the order of their submission, and the callers take turns. A held job is `queued`: its record has its entry in the
-- field `request`, its caller in `held`, and no `entry`.
-- KEY "marq:{MODEL}:callers:VERSION" (hash): `tag`, `quota` and `weight:CALLER`. Without it no job is held back.
-- KEY "marq:{MODEL}:turns:LANE:VERSION" (sorted set): callers with held jobs; the lowest number is the next.
-- KEY "marq:{MODEL}:held:LANE:CALLER:VERSION" (sorted set): ids of held jobs by the moment of submission.
-- KEY "marq:{MODEL}:held-counts:VERSION" (hash): held jobs of each `LANE` and each `LANE CALLER`, and their `bytes`.
-- KEY "marq:{MODEL}:held-deadlines:VERSION" (sorted set): ids of held jobs by their deadlines.
local LEAST = 32 -- entries that may wait in a lane
local MOST = 500 -- jobs that leave in one call: a script holds up all other commands
local NAMES = {"high", "normal", "low"}
local callers = {}
local known = {} -- settings by key, in this call

-- The settings of a version; nil if its callers do not take turns.
function callers.settings(head, version)
  local key = head .. "callers:" .. version
  if known[key] == nil then
    local flat, found = redis.call("HGETALL", key), {}
    for i = 1, #flat, 2 do
      found[flat[i]] = flat[i + 1]
    end
    known[key] = found.tag and found or false
  end
  return known[key] or nil
end

-- The caller that the tags name; all jobs without such a tag have the caller "".
function callers.of(settings, tags)
  local start = settings.tag .. "="
  for tag in string.gmatch(tags, "[^,]+") do
    if string.sub(tag, 1, #start) == start and not string.find(tag, ":", 1, true) then
      return string.sub(tag, #start + 1)
    end
  end
  return ""
end

-- How many more jobs the caller may queue.
function callers.quota(settings, head, version, caller)
  local quota = tonumber(settings.quota) or 0
  if quota == 0 or caller == "" then
    return math.huge
  end
  for _, set in ipairs({"scheduled", unpack(NAMES)}) do
    quota = quota - redis.call("ZCARD", index.set(head, set, settings.tag .. "=" .. caller, version))
  end
  return quota
end

local function turns_of(head, name, version)
  return head .. "turns:" .. name .. ":" .. version
end

local function held_of(head, name, caller, version)
  return head .. "held:" .. name .. ":" .. caller .. ":" .. version
end

local function counts_of(head, version)
  return head .. "held-counts:" .. version
end

local function stride(settings, caller)
  return 1 / (settings and tonumber(settings["weight:" .. caller]) or 1)
end

-- How many more entries may wait in a lane: as many as replicas hold, twice, so that they do not run out of them.
local function room(lane)
  local length, pending = redis.call("XLEN", lane), 0
  for _, group in ipairs(length > 0 and redis.call("XINFO", "GROUPS", lane) or {}) do
    pending = pending + index.field(group, "pending")
  end
  return math.max(LEAST, 2 * pending) - (length - pending)
end

-- How many jobs may go to a lane at once: none while others are held back.
function callers.room(head, name, version)
  if redis.call("EXISTS", turns_of(head, name, version)) == 1 then
    return 0
  end
  return math.max(0, room(head .. name .. ":" .. version))
end

local function count(head, name, caller, version, number, bytes)
  local counts = counts_of(head, version)
  redis.call("HINCRBY", counts, "bytes", bytes)
  for _, field in ipairs({name, name .. " " .. caller}) do
    if redis.call("HINCRBY", counts, field, number) == 0 then
      redis.call("HDEL", counts, field)
    end
  end
  if redis.call("HLEN", counts) == 1 then -- only `bytes` is left
    redis.call("DEL", counts)
  end
end

-- Holds a job back whose record exists. `moment`: unix microseconds.
function callers.hold(settings, record, name, caller, version, entry, moment)
  local head, id = index.split(record)
  local request, turns = cmsgpack.pack(entry), turns_of(head, name, version)
  redis.call("HSET", record, "held", caller, "request", request)
  redis.call("HDEL", record, "entry")
  redis.call("ZADD", held_of(head, name, caller, version), index.text(moment), id)
  if not redis.call("ZSCORE", turns, caller) then
    local first = redis.call("ZRANGE", turns, 0, 0, "WITHSCORES")[2] or 0
    redis.call("ZADD", turns, string.format("%.17g", first + stride(settings, caller)), caller)
  end
  local deadline = index.field(entry, "deadline")
  if tonumber(deadline) then
    redis.call("ZADD", head .. "held-deadlines:" .. version, deadline, id)
  end
  count(head, name, caller, version, 1, #request)
end

-- Takes a held job out of the turns; returns its entry, nil if it was not held back.
function callers.take(record, version)
  local caller, request, priority = unpack(redis.call("HMGET", record, "held", "request", "priority"))
  if not (caller and request) then
    return nil
  end
  local head, id = index.split(record)
  local held = held_of(head, priority, caller, version)
  redis.call("ZREM", held, id)
  if redis.call("EXISTS", held) == 0 then
    redis.call("ZREM", turns_of(head, priority, version), caller)
  end
  redis.call("ZREM", head .. "held-deadlines:" .. version, id)
  redis.call("HDEL", record, "held", "request")
  count(head, priority, caller, version, -1, -#request)
  return cmsgpack.unpack(request)
end

local function move(head, id, version)
  local record = head .. "job:" .. id
  local priority, entry = redis.call("HGET", record, "priority"), callers.take(record, version)
  if entry then
    redis.call("HSET", record, "entry", redis.call("XADD", head .. priority .. ":" .. version, "*", unpack(entry)))
  end
  return entry
end

-- Queues a job whose record exists: in its lane, or behind others of its caller.
function callers.put(record, name, tags, version, entry)
  local head = index.split(record)
  local settings, lane = callers.settings(head, version), head .. name .. ":" .. version
  redis.call("HSET", record, "state", "queued", "lane", lane, "priority", name)
  if settings and callers.room(head, name, version) == 0 then
    callers.hold(settings, record, name, callers.of(settings, tags), version, entry, index.now())
  else
    redis.call("HSET", record, "entry", redis.call("XADD", lane, "*", unpack(entry)))
    redis.call("HDEL", record, "request")
  end
end

local function fill(head, name, version, least)
  local turns, settings, moved = turns_of(head, name, version), callers.settings(head, version), 0
  local free = math.min(MOST, math.max(least, room(head .. name .. ":" .. version)))
  while moved < free do
    local caller, turn = unpack(redis.call("ZRANGE", turns, 0, 0, "WITHSCORES"))
    local id = caller and redis.call("ZRANGE", held_of(head, name, caller, version), 0, 0)[1]
    if not id then
      return moved
    end
    if not move(head, id, version) then -- its record was deleted
      redis.call("ZREM", held_of(head, name, caller, version), id)
      count(head, name, caller, version, -1, 0)
    end
    if redis.call("EXISTS", held_of(head, name, caller, version)) == 1 then
      redis.call("ZADD", turns, string.format("%.17g", turn + stride(settings, caller)), caller)
    else
      redis.call("ZREM", turns, caller)
    end
    moved = moved + 1
  end
  return moved
end

-- Moves held jobs to the lanes, as far as there is room, and `least` of each lane at least. Returns how many.
function callers.fill(head, version, least)
  local counts, moved = counts_of(head, version), 0
  if redis.call("EXISTS", counts) == 0 then
    return 0
  end
  for i, number in ipairs(redis.call("HMGET", counts, unpack(NAMES))) do
    moved = moved + (number and fill(head, NAMES[i], version, least) or 0)
  end
  return moved
end

-- Moves held jobs whose deadline has passed to their lanes, where they expire as others do.
function callers.release_late(head, version, now_ms)
  local late = redis.call("ZRANGEBYSCORE", head .. "held-deadlines:" .. version, "-inf", "(" .. index.text(now_ms),
    "LIMIT", 0, MOST)
  for _, id in ipairs(late) do
    if not move(head, id, version) then
      redis.call("ZREM", head .. "held-deadlines:" .. version, id)
    end
  end
end

