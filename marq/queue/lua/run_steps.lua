-- What follows in a run when a node or an element has its answer: this text follows that of run_ends.
local JSON_TYPE = "application/json"

local run_steps = {}

local function has_answered_parent(run, node)
  for _, parent in ipairs(node.from) do
    if run_record.get(run, "out:" .. parent) then
      return true
    end
  end
  return false
end

-- One more parent of a node has answered, or was left out. Whether it was the last one.
local function is_due(run, node, name)
  if #node.from == 1 then
    return true
  end
  local answered = run_record.number(run, "need:" .. name) + 1
  run_record.set(run, "need:" .. name, answered)
  return answered == #node.from
end

local function add_or_fail(run, name, ...)
  if not run_entries.add(run, name, ...) then
    run_ends.fail_unregistered(run, run_entries.node_of(name))
  end
  return not run.has_ended
end

-- Whether a node gets the client's request.
local function is_first(plan, node)
  local parent = plan.nodes[node.from[1]]
  return not parent or (parent.choose and is_first(plan, parent))
end

-- Queues each element of a node's input, after the client's types and parameters have been left out.
local function queue_elements(run, name, text)
  local items = elements.of(text)
  if not items or #items > elements.MOST then
    local fault = items and "has more than " .. elements.MOST .. " elements." or "is not a JSON array."
    local status, kind = 500, "InternalServerException"
    if is_first(run.plan, run.plan.nodes[name]) then
      status, kind = 400, "BadRequestException"
    end
    run_ends.fail_for(run, name, status, kind, "The input of node " .. name .. " " .. fault)
    return false
  end
  run_record.set(run, "size:" .. name, #items)
  run_record.set(run, "answered:" .. name, 0)
  if run.is_job and not run_record.get(run, "began:" .. name) then
    run_record.set(run, "began:" .. name, index.text(run_ends.milliseconds()))
  end
  if #items == 0 then
    run_steps.succeed(run, name, "[]", "out:")
    return not run.has_ended
  end
  for number, item in ipairs(items) do
    if not add_or_fail(run, run_entries.element_of(name, number - 1), JSON_TYPE, item, "body", {}) then
      return false
    end
  end
  return true
end

-- Queues a node. Returns whether the run goes on.
function run_steps.queue(run, name)
  local fields = {}
  local kind, body, body_field = run_entries.input_of(run, run.plan.nodes[name], fields)
  if run.plan.nodes[name].map then
    return queue_elements(run, name, body)
  end
  return add_or_fail(run, name, kind, body, body_field, fields)
end

-- A node was not chosen; nor are those that follow only such nodes. Returns whether the run goes on.
local function leave_out(run, name)
  local node = run.plan.nodes[name]
  if #node.to == 0 then
    run_ends.finish_leaf(run) -- not the last one: a chosen node leads to another
  end
  for _, follower in ipairs(node.to) do
    local after = run.plan.nodes[follower]
    if is_due(run, after, follower) then
      local step = has_answered_parent(run, after) and run_steps.queue or leave_out
      if not step(run, follower) then
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

local function choose(run, name, body)
  local node = run.plan.nodes[name]
  local chosen = chosen_by(node, body)
  if not chosen then
    local reason = "The answer of node " .. name .. " does not name nodes that follow it."
    run_ends.fail_for(run, name, 500, "InternalServerException", reason)
    return
  end
  for _, follower in ipairs(node.to) do
    if chosen[follower] and not run_steps.queue(run, follower) then
      return
    end
  end
  for _, follower in ipairs(node.to) do
    if not chosen[follower] and not leave_out(run, follower) then
      return
    end
  end
end

-- A node has its answer. `place`: "out:", or "ref:" for the reference of a file with it.
function run_steps.succeed(run, name, body, place)
  local node = run.plan.nodes[name]
  run_ends.note_done(run, name)
  if node.choose then
    choose(run, name, body)
    return
  elseif #run.plan.leaves == 1 and #node.to == 0 then
    run_ends.finish_with(run, body, place)
    return
  end
  run_record.set(run, place .. name, body)
  if #node.to == 0 then
    run_ends.finish_leaf(run)
    return
  end
  for _, follower in ipairs(node.to) do
    if is_due(run, run.plan.nodes[follower], follower) and not run_steps.queue(run, follower) then
      return
    end
  end
end

-- Queues an element again: its input is still in that of the node.
local function queue_element(run, name, number)
  local _, text = run_entries.input_of(run, run.plan.nodes[name], {})
  local items = elements.of(text)
  return add_or_fail(run, run_entries.element_of(name, number), JSON_TYPE, items[number + 1], "body", {})
end

-- An element has its answer. The last one makes the answers one list, in the order of the elements.
function run_steps.succeed_element(run, name, number, body)
  if not pcall(cjson.decode, body) then
    local reason = "The answer of node " .. name .. " to element " .. number .. " is not JSON."
    run_ends.fail_for(run, name, 500, "InternalServerException", reason)
    return
  end
  local answered = run_record.number(run, "answered:" .. name) + 1
  run_record.set(run, "out:" .. run_entries.element_of(name, number), body)
  run_record.set(run, "answered:" .. name, answered)
  if answered < run_record.number(run, "size:" .. name) then
    return
  end
  local parts = {}
  for i, element in ipairs(run_entries.elements(run, name)) do
    parts[i] = run_record.get(run, "out:" .. element)
    run_entries.forget_element(run, element)
  end
  run_steps.succeed(run, name, "[" .. table.concat(parts, ", ") .. "]", "out:")
end

-- `given`: the node, or the element, whose try has failed; it was the `tries`th.
function run_steps.try_again(run, given, tries)
  local name, number = run_entries.node_of(given)
  run_record.set(run, "try:" .. given, tries + 1)
  if number then
    queue_element(run, name, number)
  else
    run_steps.queue(run, name)
  end
end
