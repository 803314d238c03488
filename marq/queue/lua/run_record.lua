-- The record of a run, as one script sees it: this text follows those of the index and of elements. Fields are read
-- once. What is changed leaves with one HSET and one HDEL for each run, at the end of the script (`settle`).
-- KEY "marq:{WORKFLOW}:run:ID", or "marq:{WORKFLOW}:job:ID" of a run that is a job (hash): the record of a run.
--   plan      JSON {start, leaves: [NODE...], nodes: {NODE: {lane: [before, after the priority], from: [NODE...],
--             to: [NODE...], timeout (ms), tries, choose: its answer names the nodes that follow,
--             map: its input is a list, file: its answer may be one}}}
--   id priority deadline replies     of the request
--   type headers params input        the client's request, for the start node; all nodes get `headers`
--   store     where answers may be files: the folder of a gateway, or the id of a store of jobs
--   at:NODE   "ENTRY LANE" of the node's entry, while it has no answer; "ENTRY@BEGAN LANE" of an entry that was moved:
--             BEGAN is when it was queued (unix ms)
--   try:NODE  how often the node was queued, if more than once
--   need:NODE how many parents have answered    out:NODE  its answer    ended  how many of several leaves have one
--   input_ref ref:NODE               instead of input and out:NODE: the file with it
--   size      of the file `input_ref`
--   size:NODE answered:NODE   of a node with `map`: how many elements its input has, and how many have their answer.
--             Each has an entry of its own, and its own at, try and out, as NODE#0, NODE#1, ...
--   watch     when a try is over that has begun (unix ms), or before
--   began:NODE done:NODE             unix ms, of jobs; `failed` and `reason`: the node that has failed one, and why
--   kept      for how long the record of a job is kept after its end (ms)
-- KEY "marq:{WORKFLOW}:due" (sorted set): "run:ID" or "job:ID" by `watch`
-- A run always has an entry in some lane until it has ended, so that no process has to remember it.
local COMMON = {"plan", "id", "priority", "headers", "deadline", "store", "replies", "watch"} -- each step reads them
local MOST_SAVED = 3000 -- fields in one command: Lua passes no more than about 8000 values
local MOST_REPLIED = 2000 -- values in one entry

local run_record = {}

local plans = {} -- by their texts: a script decodes that of a workflow once
local opened = {} -- by their keys
local replies = {} -- values of entries, by stream

local function plan_of(text)
  if plans[text] == nil then
    local is_json, plan = pcall(cjson.decode, text)
    plans[text] = is_json and plan or false
  end
  return plans[text]
end

local function make(key, known)
  local head = string.match(key, "^(.-}:)")
  opened[key] = {key = key, head = head, member = string.sub(key, #head + 1), known = known, changed = {},
    plan = plan_of(known.plan), is_job = string.find(key, "}:job:", 1, true) ~= nil, has_ended = false}
  return opened[key]
end

-- A run; nil if it has ended. `...`: more fields that will be read.
function run_record.open(key, ...)
  if opened[key] then
    return not opened[key].has_ended and opened[key] or nil
  end
  local names, known = {...}, {}
  for _, name in ipairs(COMMON) do
    names[#names + 1] = name
  end
  local found = redis.pcall("HMGET", key, unpack(names)) -- a producer may name any key
  for i, name in ipairs(names) do
    known[name] = found[i]
  end
  return known.plan and plan_of(known.plan) and make(key, known) or nil
end

-- A new run with these fields: names and values in turns.
function run_record.new(key, fields)
  local known, changed = {}, {}
  for i = 1, #fields, 2 do
    known[fields[i]], changed[fields[i]] = fields[i + 1], true
  end
  local run = make(key, known)
  run.changed, run.is_new = changed, true
  return run
end

-- The value of a field; false if there is none.
function run_record.get(run, field)
  local value = run.known[field]
  if value == nil and run.is_new then
    return false
  elseif value == nil then
    value = redis.call("HGET", run.key, field)
    run.known[field] = value
  end
  return value
end

function run_record.number(run, field)
  return tonumber(run_record.get(run, field) or 0)
end

-- `value`: false takes the field out.
function run_record.set(run, field, value)
  run.known[field], run.changed[field] = value, true
end

-- Writes what was changed. A record that has ended is not written.
function run_record.save(run)
  local given, gone = {}, {}
  for field in pairs(run.changed) do
    if run.known[field] then
      given[#given + 1], given[#given + 2] = field, run.known[field]
    else
      gone[#gone + 1] = field
    end
  end
  for from = 1, #given, MOST_SAVED * 2 do
    redis.call("HSET", run.key, unpack(given, from, math.min(from + MOST_SAVED * 2 - 1, #given)))
  end
  for from = 1, #gone, MOST_SAVED do
    redis.call("HDEL", run.key, unpack(gone, from, math.min(from + MOST_SAVED - 1, #gone)))
  end
  run.changed = {}
end

-- Looks at the run at this moment (unix ms), if it is not looked at before.
function run_record.watch(run, moment)
  local watch = tonumber(run_record.get(run, "watch") or nil)
  if not watch or moment < watch then
    run_record.set(run, "watch", index.text(moment))
    redis.call("ZADD", run.head .. "due", index.text(moment), run.member)
  end
end

-- Ends a run. That of a job keeps its record.
function run_record.close(run)
  run_record.save(run)
  run.has_ended = true
  redis.call("ZREM", run.head .. "due", run.member)
  if not run.is_job then
    redis.call("DEL", run.key)
  end
end

local function send(stream)
  redis.call("XADD", stream, "NOMKSTREAM", "*", unpack(replies[stream]))
  replies[stream] = nil
end

-- Answers the client of a run.
function run_record.reply(run, status, headers, body, body_field)
  local stream = run_record.get(run, "replies")
  local values = replies[stream] or {}
  local at = #values
  values[at + 1], values[at + 2], values[at + 3], values[at + 4] = "id", run_record.get(run, "id"), "status", status
  values[at + 5], values[at + 6], values[at + 7], values[at + 8] = "headers", headers, body_field, body
  replies[stream] = values
  if at + 8 >= MOST_REPLIED then
    send(stream)
  end
end

-- Completes what a script does for runs: its last step.
function run_record.settle()
  for _, run in pairs(opened) do
    if not run.has_ended then
      run_record.save(run)
    end
  end
  for stream in pairs(replies) do
    send(stream)
  end
  index.settle()
end
