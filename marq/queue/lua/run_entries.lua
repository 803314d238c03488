-- The record of a run, and the entries of its nodes in the lanes: this text follows those of the index and of
-- elements.
-- KEY "marq:{WORKFLOW}:run:ID", or "marq:{WORKFLOW}:job:ID" of a run that is a job (hash): the record of a run.
--   plan      JSON {start, leaves: [NODE...], nodes: {NODE: {lane: [before, after the priority], from: [NODE...],
--             to: [NODE...], timeout (ms), tries, choose: its answer names the nodes that follow,
--             map: its input is a list, file: its answer may be one}}}
--   id priority deadline replies     of the request
--   type headers params input        the client's request, for the start node; all nodes get `headers`
--   store     where answers may be files: the folder of a gateway, or the id of a store of jobs
--   at:NODE   "ENTRY LANE" of the node's entry, while it has no answer
--   try:NODE  how often the node was queued    need:NODE  how many parents have answered    out:NODE  its answer
--   input_ref ref:NODE               instead of input and out:NODE: the file with it
--   size      of the file `input_ref`
--   size:NODE answered:NODE   of a node with `map`: how many elements its input has, and how many have their answer.
--             Each has an entry of its own, and its own at, try and out, as NODE#0, NODE#1, ...
--   began:NODE done:NODE             unix ms, of jobs; `failed` and `reason`: the node that has failed one, and why
--   kept      for how long the record of a job is kept after its end (ms)
-- KEY "marq:{WORKFLOW}:due" (sorted set): "run:ID NODE" or "job:ID NODE", with NODE#0 as above,
-- by the moment when the try is over (unix ms)
-- A run always has an entry in some lane until it has ended, so that no process has to remember it.
local GROUP = "replicas"
local ROW = "application/x-marq-row" -- the values of several parents: NAME-LENGTH:NAME,LENGTH:VALUE, in turns

local run_entries = {}

-- The plan of a run, and the value of another field of its record; nil if the run has ended.
function run_entries.plan_of(record, field)
  local found = redis.pcall("HMGET", record, "plan", field or "id") -- a producer may name any key
  if found.err or not found[1] then
    return nil
  end
  return cjson.decode(found[1]), found[2]
end

function run_entries.head_of(record)
  return string.match(record, "^(.-}:)")
end

local function member_of(record, name)
  return string.sub(record, #run_entries.head_of(record) + 1) .. " " .. name
end

function run_entries.is_job(record)
  return string.find(record, "}:job:", 1, true)
end

function run_entries.element_of(name, number)
  return name .. "#" .. number
end

-- The node, and the element's number where `name` is that of an element.
function run_entries.node_of(name)
  local node, number = string.match(name, "^(.*)#(%d+)$")
  return node or name, number
end

function run_entries.milliseconds()
  return math.floor(index.now() / 1000)
end

local function row_of(record, parents)
  local parts = {}
  for _, name in ipairs(parents) do
    local value = redis.call("HGET", record, "out:" .. name)
    if value then -- false: the parent was not chosen
      parts[#parts + 1] = #name .. ":" .. name .. "," .. #value .. ":" .. value .. ","
    end
  end
  return table.concat(parts)
end

-- The answer of a node, and the field of an entry that it belongs into.
function run_entries.answer_of(record, name)
  local body, ref = unpack(redis.call("HMGET", record, "out:" .. name, "ref:" .. name))
  if ref then
    return ref, "body_ref"
  end
  return body, "body"
end

-- The type and the body of a node's input, and the field of an entry that the body belongs into. A node that was
-- chosen gets the input of the node that has chosen it.
function run_entries.input_of(record, plan, node, fields)
  if #node.from == 0 then
    local kind, params, body, ref = unpack(redis.call("HMGET", record, "type", "params", "input", "input_ref"))
    if params ~= "" then
      fields[#fields + 1], fields[#fields + 2] = "params", params
    end
    if ref then
      return kind, ref, "body_ref"
    end
    return kind, body, "body"
  elseif #node.from == 1 and plan.nodes[node.from[1]].choose then
    return run_entries.input_of(record, plan, plan.nodes[node.from[1]], fields)
  elseif #node.from == 1 then
    return "", run_entries.answer_of(record, node.from[1])
  end
  return ROW, row_of(record, node.from), "body"
end

-- Adds an entry of a node, or of an element. Returns its id, nil if the node's model has no lanes: it was unregistered.
function run_entries.add(record, plan, name, kind, body, body_field, fields)
  local base = run_entries.node_of(name)
  local node = plan.nodes[base]
  local id, priority, headers, deadline, store, tries = unpack(
    redis.call("HMGET", record, "id", "priority", "headers", "deadline", "store", "try:" .. name))
  local lane = node.lane[1] .. priority .. node.lane[2]
  for field, value in pairs({id = id, run = record, node = name, type = kind, headers = headers, deadline = deadline}) do
    if value ~= "" then
      fields[#fields + 1], fields[#fields + 2] = field, value
    end
  end
  if store and node.file then
    fields[#fields + 1], fields[#fields + 2] = "store", store
  end
  local entry = redis.call("XADD", lane, "NOMKSTREAM", "*", body_field, body, unpack(fields))
  if not entry then
    return nil
  end
  local now = run_entries.milliseconds()
  redis.call("HSET", record, "at:" .. name, entry .. " " .. lane, "try:" .. name, (tries or 0) + 1)
  redis.call("ZADD", run_entries.head_of(record) .. "due", index.text(now + node.timeout), member_of(record, name))
  if run_entries.is_job(record) then
    redis.call("HSETNX", record, "began:" .. base, index.text(now))
  end
  return entry
end

function run_entries.forget(record, name)
  redis.call("HDEL", record, "at:" .. name)
  redis.call("ZREM", run_entries.head_of(record) .. "due", member_of(record, name))
end

-- Takes the entry of a node out of its lane: a replica that runs it goes on, and its answer is dropped.
function run_entries.withdraw(record, name)
  local entry, lane = string.match(redis.call("HGET", record, "at:" .. name) or "", "^(%S+) (.*)$")
  if entry then
    redis.call("XACK", lane, GROUP, entry)
    redis.call("XDEL", lane, entry)
    run_entries.forget(record, name)
  end
end

-- Takes all entries of a node out, and forgets the elements of its input.
function run_entries.withdraw_all(record, plan, name)
  run_entries.withdraw(record, name)
  for number = 0, (plan.nodes[name].map and tonumber(redis.call("HGET", record, "size:" .. name)) or 0) - 1 do
    local element = run_entries.element_of(name, number)
    run_entries.withdraw(record, element)
    redis.call("HDEL", record, "out:" .. element, "try:" .. element)
  end
end
