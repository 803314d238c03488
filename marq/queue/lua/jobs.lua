-- A page of a model's jobs, the newest first, and how many there are in each state.
-- KEYS  1 beginning of the keys of the index
-- ARGV  1 group   2 version, empty: all   3 tag, empty: all   4 state, empty: all   5 how many at most
--       6 only jobs that were submitted before (unix microseconds, or +inf)   7 of those at that very moment
--         the ids that sort before this one   8.. names of the fields of a record
-- Returns {counts, jobs}: counts in the order of STATES; a job is {moment, id, ms since it was started or -1,
-- the values of the fields}. A record may have expired: then its values are nil.
local FIRST = 8
local STATES = {"scheduled", "queued", "running", "succeeded", "failed", "expired", "cancelled"}
local PRIORITIES = {"high", "normal", "low"}
local LANES = {"front", "high", "normal", "low"}
local MOST_RUNNING = 1000 -- entries of a lane

local head = string.match(KEYS[1], "^(.-}:)jobs:$")
local tag, wanted, most, before, last = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local counts, found = {0, 0, 0, 0, 0, 0, 0}, {}

-- Jobs whose entry a replica holds: their sets, moments and times by id.
local function running_of(version)
  local running = {}
  for _, lane in ipairs(LANES) do
    local key = head .. lane .. ":" .. version
    local pending = redis.pcall("XPENDING", key, ARGV[1], "-", "+", MOST_RUNNING)
    for _, held in ipairs(pending.err and {} or pending) do
      local entry = redis.call("XRANGE", key, held[1], held[1])[1]
      local fields = entry and entry[2] or {}
      local id = index.field(fields, "job") == "1" and (index.field(fields, "id") or held[1])
      local record = head .. "job:" .. (id or "")
      local state, at, priority = unpack(redis.call("HMGET", record, "state", "entry", "priority"))
      if state == "queued" and at == held[1] then
        local moment = redis.call("ZSCORE", index.set(head, priority or "normal", tag, version), id)
        running[id] = moment and {moment = moment, ms = held[3]} or nil
      end
    end
  end
  return running
end

local function is_before(moment, id)
  return before == "+inf" or tonumber(moment) < tonumber(before) or (moment == before and id < last)
end

local function keep(moment, id, ms)
  if is_before(moment, id) then
    found[#found + 1] = {moment = moment, number = tonumber(moment), id = id, ms = ms}
    return 1
  end
  return 0
end

local function walk(set, running)
  local kept, offset = 0, 0
  repeat
    local page = redis.call("ZREVRANGEBYSCORE", set, before, "-inf", "WITHSCORES", "LIMIT", offset, most)
    for i = 1, #page, 2 do
      if not running[page[i]] then
        kept = kept + keep(page[i + 1], page[i], -1)
      end
    end
    offset = offset + most
  until kept >= most or #page < 2 * most
end

local function count(place, set)
  counts[place] = counts[place] + redis.call("ZCARD", set)
end

local function look(version)
  local running = running_of(version)
  for place, state in ipairs(STATES) do
    local asked = wanted == "" or wanted == state
    if state == "queued" then
      for _, name in ipairs(PRIORITIES) do
        count(place, index.set(head, name, tag, version))
        if asked then
          walk(index.set(head, name, tag, version), running)
        end
      end
    elseif state == "running" then
      for id, job in pairs(running) do
        counts[place], counts[place - 1] = counts[place] + 1, counts[place - 1] - 1
        if asked then
          keep(job.moment, id, job.ms)
        end
      end
    else
      count(place, index.set(head, state, tag, version))
      if asked then
        walk(index.set(head, state, tag, version), {})
      end
    end
  end
end

index.trim(head, math.floor(index.now() / 1000))
local versions = ARGV[2] ~= "" and {ARGV[2]} or redis.call("ZRANGE", head .. "jobs:versions", 0, -1)
for _, version in ipairs(versions) do
  look(version)
end
table.sort(found, function(one, other)
  if one.number ~= other.number then
    return one.number > other.number
  end
  return one.id > other.id
end)
local jobs = {}
for i = 1, math.min(most, #found) do
  local job = found[i]
  local values = redis.call("HMGET", head .. "job:" .. job.id, unpack(ARGV, FIRST))
  jobs[i] = {job.moment, job.id, job.ms, values}
end
return {counts, jobs}
