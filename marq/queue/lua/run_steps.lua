-- What follows in a run when a node or an element has its answer: this text follows that of run_ends.
local JSON_TYPE = "application/json"

local run_steps = {}

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

local function add_or_fail(record, plan, name, ...)
  if run_entries.add(record, plan, name, ...) then
    return true
  end
  run_ends.fail_unregistered(record, plan, run_entries.node_of(name))
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
    run_ends.fail_for(record, plan, name, status, kind, "The input of node " .. name .. " " .. fault)
    return false
  end
  redis.call("HSET", record, "size:" .. name, #items, "answered:" .. name, 0)
  if run_entries.is_job(record) then
    redis.call("HSETNX", record, "began:" .. name, index.text(run_entries.milliseconds()))
  end
  if #items == 0 then
    run_steps.succeed(record, plan, name, "[]", "out:")
    return redis.call("HEXISTS", record, "plan") == 1
  end
  for number, item in ipairs(items) do
    if not add_or_fail(record, plan, run_entries.element_of(name, number - 1), JSON_TYPE, item, "body", {}) then
      return false
    end
  end
  return true
end

-- Queues a node. Returns whether the run goes on.
function run_steps.queue(record, plan, name)
  local fields = {}
  local kind, body, body_field = run_entries.input_of(record, plan, plan.nodes[name], fields)
  if plan.nodes[name].map then
    return queue_elements(record, plan, name, body)
  end
  return add_or_fail(record, plan, name, kind, body, body_field, fields)
end

-- A node was not chosen; nor are those that follow only such nodes. Returns whether the run goes on.
local function leave_out(record, plan, name)
  local node = plan.nodes[name]
  if #node.to == 0 then
    run_ends.finish_leaf(record, plan) -- not the last one: a chosen node leads to another
  end
  for _, follower in ipairs(node.to) do
    local after = plan.nodes[follower]
    if is_due(record, after, follower) then
      local step = has_answered_parent(record, after) and run_steps.queue or leave_out
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
    run_ends.fail_for(record, plan, name, 500, "InternalServerException", reason)
    return
  end
  for _, follower in ipairs(node.to) do
    if chosen[follower] and not run_steps.queue(record, plan, follower) then
      return
    end
  end
  for _, follower in ipairs(node.to) do
    if not chosen[follower] and not leave_out(record, plan, follower) then
      return
    end
  end
end

-- A node has its answer. `place`: "out:", or "ref:" for the reference of a file with it.
function run_steps.succeed(record, plan, name, body, place)
  local node = plan.nodes[name]
  if run_entries.is_job(record) then
    redis.call("HSET", record, "done:" .. name, index.text(run_entries.milliseconds()))
  end
  if node.choose then
    choose(record, plan, name, body)
    return
  end
  redis.call("HSET", record, place .. name, body)
  if #node.to == 0 then
    run_ends.finish_leaf(record, plan)
    return
  end
  for _, follower in ipairs(node.to) do
    if is_due(record, plan.nodes[follower], follower) and not run_steps.queue(record, plan, follower) then
      return
    end
  end
end

-- Queues an element again: its input is still in that of the node.
function run_steps.queue_element(record, plan, name, number)
  local _, text = run_entries.input_of(record, plan, plan.nodes[name], {})
  local items = elements.of(text)
  return add_or_fail(record, plan, run_entries.element_of(name, number), JSON_TYPE, items[number + 1], "body", {})
end

-- An element has its answer. The last one makes the answers one list, in the order of the elements.
function run_steps.succeed_element(record, plan, name, number, body)
  if not pcall(cjson.decode, body) then
    local reason = "The answer of node " .. name .. " to element " .. number .. " is not JSON."
    run_ends.fail_for(record, plan, name, 500, "InternalServerException", reason)
    return
  end
  local size = tonumber(redis.call("HGET", record, "size:" .. name))
  redis.call("HSET", record, "out:" .. run_entries.element_of(name, number), body)
  if redis.call("HINCRBY", record, "answered:" .. name, 1) < size then
    return
  end
  local parts = {}
  for i = 1, size do
    local element = run_entries.element_of(name, i - 1)
    parts[i] = redis.call("HGET", record, "out:" .. element)
    redis.call("HDEL", record, "out:" .. element, "try:" .. element)
  end
  run_steps.succeed(record, plan, name, "[" .. table.concat(parts, ", ") .. "]", "out:")
end

function run_steps.try_again(record, plan, name, number)
  if number then
    run_steps.queue_element(record, plan, name, number)
  else
    run_steps.queue(record, plan, name)
  end
end
