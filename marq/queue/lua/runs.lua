-- Runs of workflows, for the scripts that start, advance, time out and end them: this text follows index.lua and
-- elements.lua, and precedes theirs. Whatever they change of a run, they change in one step.
-- KEY "marq:{WORKFLOW}:run:ID", or "marq:{WORKFLOW}:job:ID" of a run that is a job (hash): the record of a run.
--   plan      JSON {start, leaves: [NODE...], nodes: {NODE: {lane: [before, after the priority], from: [NODE...],
--             to: [NODE...], timeout (ms), tries, choose: its answer names the nodes that follow,
--             map: its input is a list}}}
--   id priority deadline replies     of the request
--   type headers params input        the client's request, for the start node; all nodes get `headers`
--   at:NODE   "ENTRY LANE" of the node's entry, while it has no answer
--   try:NODE  how often the node was queued    need:NODE  how many parents have answered    out:NODE  its answer
--   size:NODE answered:NODE   of a node with `map`: how many elements its input has, and how many have their answer.
--             Each has an entry of its own, and its own at, try and out, as NODE#0, NODE#1, ...
--   began:NODE done:NODE             unix ms, of jobs; `failed` and `reason`: the node that has failed one, and why
--   kept      for how long the record of a job is kept after its end (ms)
-- KEY "marq:{WORKFLOW}:due" (sorted set): "run:ID NODE" or "job:ID NODE", with NODE#0 as above, by the moment when the try is over (unix ms)
-- A run always has an entry in some lane until it has ended, so that no process has to remember it.
local GROUP = "replicas"
local ROW = "application/x-marq-row" -- the values of several parents: NAME-LENGTH:NAME,LENGTH:VALUE, in turns
local EXPIRED = 504 -- only of a node that has not started before its deadline
local JSON = '{"content-type": "application/json"}'
local JSON_TYPE = "application/json"

local runs = {}

local function head_of(record)
  return string.match(record, "^(.-}:)")
end

local function member_of(record, name)
  return string.sub(record, #head_of(record) + 1) .. " " .. name
end

local function is_job(record)
  return string.find(record, "}:job:", 1, true)
end

local function element_of(name, number)
  return name .. "#" .. number
end

-- The node, and the element's number where `name` is that of an element.
local function node_of(name)
  local node, number = string.match(name, "^(.*)#(%d+)$")
  return node or name, number
end

local function milliseconds()
  return math.floor(index.now() / 1000)
end

function runs.error_body(code, kind, message)
  return '{\n  "code": ' .. code .. ',\n  "type": "' .. kind .. '",\n  "message": "' .. message .. '"\n}\n'
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

-- A node that was chosen gets the input of the node that has chosen it.
local function input_of(record, plan, node, fields)
  if #node.from == 0 then
    local kind, params, body = unpack(redis.call("HMGET", record, "type", "params", "input"))
    if params ~= "" then
      fields[#fields + 1], fields[#fields + 2] = "params", params
    end
    return kind, body
  elseif #node.from == 1 and plan.nodes[node.from[1]].choose then
    return input_of(record, plan, plan.nodes[node.from[1]], fields)
  elseif #node.from == 1 then
    return "", redis.call("HGET", record, "out:" .. node.from[1])
  end
  return ROW, row_of(record, node.from)
end

-- Adds an entry of a node, or of an element. Returns its id, nil if the node's model has no lanes: it was unregistered.
local function add_entry(record, plan, name, kind, body, fields)
  local base = node_of(name)
  local node = plan.nodes[base]
  local id, priority, headers, deadline = unpack(
    redis.call("HMGET", record, "id", "priority", "headers", "deadline"))
  local lane = node.lane[1] .. priority .. node.lane[2]
  for field, value in pairs({id = id, run = record, node = name, type = kind, headers = headers, deadline = deadline}) do
    if value ~= "" then
      fields[#fields + 1], fields[#fields + 2] = field, value
    end
  end
  local entry = redis.call("XADD", lane, "NOMKSTREAM", "*", "body", body, unpack(fields))
  if not entry then
    return nil
  end
  local now = milliseconds()
  redis.call("HSET", record, "at:" .. name, entry .. " " .. lane)
  redis.call("HINCRBY", record, "try:" .. name, 1)
  redis.call("ZADD", head_of(record) .. "due", index.text(now + node.timeout), member_of(record, name))
  if is_job(record) then
    redis.call("HSETNX", record, "began:" .. base, index.text(now))
  end
  return entry
end

local function forget_entry(record, name)
  redis.call("HDEL", record, "at:" .. name)
  redis.call("ZREM", head_of(record) .. "due", member_of(record, name))
end

-- Takes the entry of a node out of its lane: a replica that runs it goes on, and its answer is dropped.
local function withdraw(record, name)
  local entry, lane = string.match(redis.call("HGET", record, "at:" .. name) or "", "^(%S+) (.*)$")
  if entry then
    redis.call("XACK", lane, GROUP, entry)
    redis.call("XDEL", lane, entry)
    forget_entry(record, name)
  end
end

-- Takes all entries of a node out, and forgets the elements of its input.
local function withdraw_node(record, plan, name)
  withdraw(record, name)
  for number = 0, (plan.nodes[name].map and tonumber(redis.call("HGET", record, "size:" .. name)) or 0) - 1 do
    local element = element_of(name, number)
    withdraw(record, element)
    redis.call("HDEL", record, "out:" .. element, "try:" .. element)
  end
end

local function finish_job(record, plan, state, status, headers, body)
  local now, fields = milliseconds(), {"plan", "input", "headers", "params", "type"}
  for name in pairs(plan.nodes) do
    fields[#fields + 1], fields[#fields + 2] = "out:" .. name, "need:" .. name
  end
  local id, kept = unpack(redis.call("HMGET", record, "id", "kept"))
  index.finish(index.job(record), state, now, kept, status)
  index.settle()
  redis.call("HDEL", record, unpack(fields))
  redis.call("HSET", record, "state", state, "finished", index.text(now))
  if state ~= "cancelled" then
    redis.call("HSET", record, "status", status, "headers", headers, "body", body)
  end
  redis.call("PUBLISH", head_of(record) .. "finished", id)
end

local function finish(record, plan, state, status, headers, body)
  if is_job(record) then
    finish_job(record, plan, state, status, headers, body)
    return
  end
  local id, replies = unpack(redis.call("HMGET", record, "id", "replies"))
  redis.call("DEL", record)
  if state ~= "cancelled" then
    redis.call("XADD", replies, "NOMKSTREAM", "*", "id", id, "status", status, "headers", headers, "body", body)
  end
end

local function end_early(record, plan, state, status, headers, body)
  for name in pairs(plan.nodes) do
    withdraw_node(record, plan, name)
  end
  finish(record, plan, state, status, headers, body)
end

local function fail(record, plan, name, status, headers, body, reason)
  if is_job(record) then
    redis.call("HSET", record, "failed", name, "reason", reason)
  end
  local state = tonumber(status) == EXPIRED and "expired" or "failed"
  end_early(record, plan, state, status, headers, body)
end

local function fail_for(record, plan, name, status, kind, reason)
  fail(record, plan, name, status, JSON, runs.error_body(status, kind, reason), reason)
end

local function fail_unregistered(record, plan, name)
  local reason = "The model of node " .. name .. " was unregistered."
  fail_for(record, plan, name, 503, "ServiceUnavailableException", reason)
end

local function is_object(text)
  return string.find(text, "^%s*{") and pcall(cjson.decode, text)
end

-- The answer of one leaf as it is; of several, a JSON object of theirs. nil, and the leaf, if one is not an object.
local function result(record, plan)
  if #plan.leaves == 1 then
    return redis.call("HGET", record, "out:" .. plan.leaves[1])
  end
  local parts = {}
  for _, name in ipairs(plan.leaves) do
    local out = redis.call("HGET", record, "out:" .. name)
    if out and not is_object(out) then
      return nil, name
    elseif out then -- false: the leaf was not chosen
      parts[#parts + 1] = '"' .. name .. '": ' .. out
    end
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function finish_leaf(record, plan)
  if redis.call("HINCRBY", record, "ended", 1) < #plan.leaves then
    return
  end
  local body, odd = result(record, plan)
  if body then
    finish(record, plan, "succeeded", 200, JSON, body)
  else
    local reason = "The answer of node " .. odd .. " is not a JSON object."
    fail_for(record, plan, odd, 500, "InternalServerException", reason)
  end
end

local function has_answered_parent(record, node)
  for _, parent in ipairs(node.from) do
    if redis.call("HEXISTS", record, "out:" .. parent) == 1 then
      return true
    end
  end
  return false
end

-- One more parent of a node has answered, or was left out. Whether it was the last one.
local function is_due(record, node, name)
  return #node.from == 1 or redis.call("HINCRBY", record, "need:" .. name, 1) == #node.from
end

local succeed -- see below: a node whose input is an empty list is done at once

local function add_or_fail(record, plan, name, kind, body, fields)
  if add_entry(record, plan, name, kind, body, fields) then
    return true
  end
  fail_unregistered(record, plan, node_of(name))
  return false
end

-- Whether a node gets the client's request.
local function is_first(plan, node)
  local parent = plan.nodes[node.from[1]]
  return not parent or (parent.choose and is_first(plan, parent))
end

-- Queues each element of a node's input, after the client's types and parameters have been left out.
local function queue_elements(record, plan, name, text)
  local items = elements.of(text)
  if not items or #items > elements.MOST then
    local fault = items and "has more than " .. elements.MOST .. " elements." or "is not a JSON array."
    local status, kind = 500, "InternalServerException"
    if is_first(plan, plan.nodes[name]) then
      status, kind = 400, "BadRequestException"
    end
    fail_for(record, plan, name, status, kind, "The input of node " .. name .. " " .. fault)
    return false
  end
  redis.call("HSET", record, "size:" .. name, #items, "answered:" .. name, 0)
  if is_job(record) then
    redis.call("HSETNX", record, "began:" .. name, index.text(milliseconds()))
  end
  if #items == 0 then
    succeed(record, plan, name, "[]")
    return redis.call("HEXISTS", record, "plan") == 1
  end
  for number, item in ipairs(items) do
    if not add_or_fail(record, plan, element_of(name, number - 1), JSON_TYPE, item, {}) then
      return false
    end
  end
  return true
end

-- Queues a node. Returns whether the run goes on.
local function queue_or_fail(record, plan, name)
  local fields = {}
  local kind, body = input_of(record, plan, plan.nodes[name], fields)
  if plan.nodes[name].map then
    return queue_elements(record, plan, name, body)
  end
  return add_or_fail(record, plan, name, kind, body, fields)
end

-- A node was not chosen; nor are those that follow only such nodes. Returns whether the run goes on.
local function leave_out(record, plan, name)
  local node = plan.nodes[name]
  if #node.to == 0 then
    finish_leaf(record, plan) -- not the last one: a chosen node leads to another
  end
  for _, follower in ipairs(node.to) do
    local after = plan.nodes[follower]
    if is_due(record, after, follower) then
      local step = has_answered_parent(record, after) and queue_or_fail or leave_out
      if not step(record, plan, follower) then
        return false
      end
    end
  end
  return true
end

-- The nodes that an answer names, as a set: a name, or a JSON list of names. nil for another answer.
local function chosen_by(node, body)
  local followers, chosen = {}, {}
  for _, name in ipairs(node.to) do
    followers[name] = true
  end
  if followers[body] then
    return {[body] = true}
  end
  local is_json, names = pcall(cjson.decode, body)
  for _, name in ipairs(is_json and (type(names) == "table" and names or {names}) or {}) do
    if not followers[name] then
      return nil
    end
    chosen[name] = true
  end
  return next(chosen) and chosen or nil
end

local function choose(record, plan, name, body)
  local node = plan.nodes[name]
  local chosen = chosen_by(node, body)
  if not chosen then
    local reason = "The answer of node " .. name .. " does not name nodes that follow it."
    fail_for(record, plan, name, 500, "InternalServerException", reason)
    return
  end
  for _, follower in ipairs(node.to) do
    if chosen[follower] and not queue_or_fail(record, plan, follower) then
      return
    end
  end
  for _, follower in ipairs(node.to) do
    if not chosen[follower] and not leave_out(record, plan, follower) then
      return
    end
  end
end

function succeed(record, plan, name, body)
  local node = plan.nodes[name]
  if is_job(record) then
    redis.call("HSET", record, "done:" .. name, index.text(milliseconds()))
  end
  if node.choose then
    choose(record, plan, name, body)
    return
  end
  redis.call("HSET", record, "out:" .. name, body)
  if #node.to == 0 then
    finish_leaf(record, plan)
    return
  end
  for _, follower in ipairs(node.to) do
    if is_due(record, plan.nodes[follower], follower) and not queue_or_fail(record, plan, follower) then
      return
    end
  end
end

local function plan_of(record)
  local text = redis.pcall("HGET", record, "plan") -- a producer may name any key
  return type(text) == "string" and cjson.decode(text) or nil
end

-- Queues an element again: its input is still in that of the node.
local function queue_element(record, plan, name, number)
  local _, text = input_of(record, plan, plan.nodes[name], {})
  local items = elements.of(text)
  return add_or_fail(record, plan, element_of(name, number), JSON_TYPE, items[number + 1], {})
end

-- An element has its answer. The last one makes the answers one list, in the order of the elements.
local function succeed_element(record, plan, name, number, body)
  if not pcall(cjson.decode, body) then
    local reason = "The answer of node " .. name .. " to element " .. number .. " is not JSON."
    fail_for(record, plan, name, 500, "InternalServerException", reason)
    return
  end
  local size = tonumber(redis.call("HGET", record, "size:" .. name))
  redis.call("HSET", record, "out:" .. element_of(name, number), body)
  if redis.call("HINCRBY", record, "answered:" .. name, 1) < size then
    return
  end
  local parts = {}
  for i = 1, size do
    local element = element_of(name, i - 1)
    parts[i] = redis.call("HGET", record, "out:" .. element)
    redis.call("HDEL", record, "out:" .. element, "try:" .. element)
  end
  succeed(record, plan, name, "[" .. table.concat(parts, ", ") .. "]")
end

local function try_again(record, plan, name, number)
  if number then
    queue_element(record, plan, name, number)
  else
    queue_or_fail(record, plan, name)
  end
end

local function note_tries(record, name, tries)
  if tries > tonumber(redis.call("HGET", record, "try:" .. name) or 0) then
    redis.call("HSET", record, "try:" .. name, tries)
  end
end

-- Whether the model of the start node has lanes.
function runs.can_start(record)
  local plan = plan_of(record)
  local lane, priority = plan.nodes[plan.start].lane, redis.call("HGET", record, "priority")
  return redis.call("EXISTS", lane[1] .. priority .. lane[2]) == 1
end

-- Queues the start node. Returns its first entry; "0-0" if it has none: where its input is a list, the run may have
-- gone on, or ended.
function runs.start(record)
  local plan = plan_of(record)
  queue_or_fail(record, plan, plan.start)
  local at = redis.call("HGET", record, "at:" .. plan.start) or redis.call("HGET", record, "at:" .. element_of(plan.start, 0))
  return at and string.match(at, "^%S+") or "0-0"
end

-- A node or an element of its input was answered; the entry is acknowledged. `outcome`: ok; failed, and may be tried
-- again; final, and may not. `status`, `headers` and `body` of a node that has not succeeded are those of the run, if
-- it fails for this `reason`.
function runs.answer(record, given, outcome, status, headers, body, reason)
  local plan = plan_of(record)
  local name, number = node_of(given)
  local node = plan and plan.nodes[name]
  if not node then
    return -- the run has ended
  end
  local tries = tonumber(redis.call("HGET", record, "try:" .. given)) or 0
  forget_entry(record, given)
  if number then
    note_tries(record, name, tries)
  end
  if outcome == "ok" and number then
    succeed_element(record, plan, name, number, body)
  elseif outcome == "ok" then
    succeed(record, plan, name, body)
  elseif outcome == "failed" and tries < node.tries then
    try_again(record, plan, name, number)
  else
    if is_job(record) then
      redis.call("HSET", record, "done:" .. name, index.text(milliseconds()))
    end
    fail(record, plan, name, status, headers, body, number and "Element " .. number .. ": " .. reason or reason)
  end
end

-- The time of a try is over.
function runs.time_out(record, name)
  withdraw(record, name)
  local body = runs.error_body(500, "InternalServerException", "Error executing " .. name)
  runs.answer(record, name, "failed", 500, JSON, body, "No answer within timeout-ms.")
end

-- Ends a run whose answer is not awaited. Returns whether it had not ended.
function runs.cancel(record)
  local plan = plan_of(record)
  if plan then
    end_early(record, plan, "cancelled")
  end
  return plan ~= nil
end

