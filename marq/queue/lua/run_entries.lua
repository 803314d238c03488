-- The entries of the nodes of runs in the lanes: this text follows that of run_record.
local GROUP = "replicas"
local ROW = "application/x-marq-row" -- the values of several parents: NAME-LENGTH:NAME,LENGTH:VALUE, in turns

local run_entries = {}

local get = run_record.get

function run_entries.element_of(name, number)
  return name .. "#" .. number
end

-- The node, and the element's number where `name` is that of an element.
function run_entries.node_of(name)
  local node, number = string.match(name, "^(.*)#(%d+)$")
  return node or name, number
end

local function row_of(run, parents)
  local parts = {}
  for _, name in ipairs(parents) do
    local value = get(run, "out:" .. name)
    if value then -- false: the parent was not chosen
      parts[#parts + 1] = #name .. ":" .. name .. "," .. #value .. ":" .. value .. ","
    end
  end
  return table.concat(parts)
end

-- The answer of a node, and the field of an entry that it belongs into.
local function answer_of(run, name)
  local body = get(run, "out:" .. name)
  if body then
    return body, "body"
  end
  return get(run, "ref:" .. name), "body_ref"
end

-- The type and the body of a node's input, and the field of an entry that the body belongs into. A node that was
-- chosen gets the input of the node that has chosen it.
function run_entries.input_of(run, node, fields)
  if #node.from == 0 then
    local params, ref = get(run, "params"), get(run, "input_ref")
    if params and params ~= "" then
      fields[#fields + 1], fields[#fields + 2] = "params", params
    end
    return get(run, "type"), ref or get(run, "input"), ref and "body_ref" or "body"
  elseif #node.from == 1 and run.plan.nodes[node.from[1]].choose then
    return run_entries.input_of(run, run.plan.nodes[node.from[1]], fields)
  elseif #node.from == 1 then
    return false, answer_of(run, node.from[1])
  end
  return ROW, row_of(run, node.from), "body"
end

local function add_given(fields, name, value)
  if value and value ~= "" then
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
end

-- Adds an entry of a node, or of an element. Returns whether the node's model has lanes: it may be unregistered.
function run_entries.add(run, name, kind, body, body_field, fields)
  local base = run_entries.node_of(name)
  local node, at = run.plan.nodes[base], #fields
  fields[at + 1], fields[at + 2], fields[at + 3], fields[at + 4] = body_field, body, "id", get(run, "id")
  fields[at + 5], fields[at + 6], fields[at + 7], fields[at + 8] = "run", run.key, "node", name
  add_given(fields, "type", kind)
  add_given(fields, "headers", get(run, "headers"))
  add_given(fields, "deadline", get(run, "deadline"))
  add_given(fields, "store", node.file and get(run, "store"))
  local lane = node.lane[1] .. get(run, "priority") .. node.lane[2]
  local entry = redis.call("XADD", lane, "NOMKSTREAM", "*", unpack(fields))
  if not entry then
    return false
  end
  local now = string.match(entry, "^%d+")
  run_record.set(run, "at:" .. name, entry .. " " .. lane)
  run_record.watch(run, now + node.timeout)
  if run.is_job and not get(run, "began:" .. base) then
    run_record.set(run, "began:" .. base, now)
  end
  return true
end

-- When the try of a node or an element began (unix ms); nil if it has no entry.
function run_entries.began(run, name)
  local entry, moved = string.match(get(run, "at:" .. name) or "", "^(%d+)%-%d+@?(%d*) ")
  return entry and tonumber(moved ~= "" and moved or entry)
end

function run_entries.forget(run, name)
  run_record.set(run, "at:" .. name, "")
end

-- Takes the entry of a node out of its lane: a replica that runs it goes on, and its answer is dropped.
function run_entries.withdraw(run, name)
  local entry, lane = string.match(get(run, "at:" .. name) or "", "^(%d+%-%d+)%S* (.*)$")
  if entry then
    redis.call("XACK", lane, GROUP, entry)
    redis.call("XDEL", lane, entry)
    run_entries.forget(run, name)
  end
end

-- The names of the elements of a node's input.
function run_entries.elements(run, name)
  local found = {}
  for number = 0, (run.plan.nodes[name].map and run_record.number(run, "size:" .. name) or 0) - 1 do
    found[#found + 1] = run_entries.element_of(name, number)
  end
  return found
end

function run_entries.forget_element(run, element)
  for _, field in ipairs({"out:", "try:", "at:"}) do
    run_record.set(run, field .. element, false)
  end
end

-- Takes all entries of a node out, and forgets the elements of its input.
function run_entries.withdraw_all(run, name)
  run_entries.withdraw(run, name)
  for _, element in ipairs(run_entries.elements(run, name)) do
    run_entries.withdraw(run, element)
    run_entries.forget_element(run, element)
  end
end
