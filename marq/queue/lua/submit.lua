-- Queues jobs, each once; or schedules them, if their field `not_before` (unix ms) lies ahead.
-- KEYS  1 lane (stream)
-- ARGV  1 now (unix ms)   2 version   3 digest of the request, or empty   4 number of the values that follow
--       5.. fields that all the entries have: name, value, ...   then for each job: id, `body` or `body_ref`, and
--       the value of that field; or `body_key` and the body, which becomes a key of its own
-- Shared fields that are read here: `tags`, `not_before`, `result_ttl` (ms), `webhook`, `webhook_events`.
-- Returns for each job the id of its entry, "scheduled", or "held" while it waits for its caller's turn; 0 when a job
-- with its id exists, -1 when that has another digest, -2 when its caller's quota is used up.
local lane, version, digest, shared = KEYS[1], ARGV[2], ARGV[3], 4 + tonumber(ARGV[4])
local head, priority, moment = index.head(lane), index.priority(lane), index.now()
local entry, given = {"id", ""}, {}
for i = 5, shared, 2 do
  entry[#entry + 1], entry[#entry + 2] = ARGV[i], ARGV[i + 1]
  given[ARGV[i]] = ARGV[i + 1]
end
local body, tags, due = #entry + 1, given.tags or "", tonumber(given.not_before)
local waits = due and due * 1000 > moment
local about = {"entry", "scheduled", "state", "queued", "version", version, "queued", ARGV[1], "priority", priority,
  "lane", lane}

local function note(name, value)
  if value and value ~= "" then
    about[#about + 1], about[#about + 2] = name, value
  end
end

note("tags", tags)
note("ttl", given.result_ttl)
note("webhook", given.webhook)
note("webhook_events", given.webhook_events)
note("digest", digest)
if digest ~= "" then
  index.trim(head, math.floor(moment / 1000)) -- of a record that had this id, and has expired
end
local settings = callers.settings(head, version)
local caller = settings and callers.of(settings, tags)
local left = settings and callers.quota(settings, head, version, caller) or math.huge
local room = settings and not waits and callers.room(head, priority, version) or math.huge
local results, members = {}, {}

-- Puts the body of a job into its entry, or beside it.
local function place(id, name, value)
  local is_key = name == "body_key"
  entry[2], entry[body] = id, is_key and "body_ref" or name
  entry[body + 1] = is_key and index.keep_body(head, id, version, value) or value
  entry[body + 2], entry[body + 3] = is_key and "size" or nil, is_key and index.text(#value) or nil
end

-- Returns the id of the job's entry, or where it waits.
local function queue(record)
  if waits then
    redis.call("HSET", record, unpack(about))
    index.schedule(record, version, entry, due)
    return "scheduled"
  elseif room > 0 then
    room = room - 1
    about[2] = redis.call("XADD", lane, "*", unpack(entry))
    redis.call("HSET", record, unpack(about))
    return about[2]
  end
  redis.call("HSET", record, unpack(about))
  callers.hold(settings, record, priority, caller, version, entry, moment + #results)
  return "held"
end

for i = shared + 1, #ARGV, 3 do
  local id = ARGV[i]
  local record = head .. "job:" .. id
  if redis.call("EXISTS", record) == 1 then
    results[#results + 1] = (redis.call("HGET", record, "digest") or "") == digest and 0 or -1
  elseif left <= 0 then
    results[#results + 1] = -2
  else
    left = left - 1
    place(id, ARGV[i + 1], ARGV[i + 2])
    results[#results + 1] = queue(record)
    members[#members + 1], members[#members + 2] = index.text(moment + #results), id
  end
end
if #members > 0 then
  index.add(head, waits and "scheduled" or priority, tags, version, members)
end
return results
