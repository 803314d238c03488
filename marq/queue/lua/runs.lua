-- Runs of workflows, for the scripts that start, advance, time out and end them: this text follows that of run_steps, and
-- precedes theirs, which end with run_record.settle. Whatever they change of a run, they change in one step.
local runs = {}

local lanes = {} -- whether they exist

local function has_lane(lane)
  if lanes[lane] == nil then
    lanes[lane] = redis.call("EXISTS", lane) == 1
  end
  return lanes[lane]
end

-- Whether the model of the start node has lanes.
function runs.can_start(run)
  local lane = run.plan.nodes[run.plan.start].lane
  return has_lane(lane[1] .. run_record.get(run, "priority") .. lane[2])
end

-- Queues the start node. Returns its first entry; "0-0" if it has none: where its input is a list, the run may have
-- gone on, or ended.
function runs.start(run)
  local name = run.plan.start
  run_steps.queue(run, name)
  local at = run_record.get(run, "at:" .. name) or run_record.get(run, "at:" .. run_entries.element_of(name, 0)) or ""
  return string.match(at, "^%d+%-%d+") or "0-0"
end

local function note_tries(run, name, tries)
  if tries > (tonumber(run_record.get(run, "try:" .. name) or nil) or 1) then
    run_record.set(run, "try:" .. name, tries)
  end
end

-- A node or an element of its input was answered; the entry is acknowledged. `outcome`: ok; failed, and may be tried
-- again; final, and may not. `status`, `headers` and `body` of a node that has not succeeded are those of the run, if
-- it fails for this `reason`. `place`: see run_steps.succeed.
function runs.answer(record, given, outcome, status, headers, body, reason, place)
  local run = run_record.open(record, "try:" .. given)
  local name, number = run_entries.node_of(given)
  local node = run and run.plan.nodes[name]
  if not node then
    return -- the run has ended
  end
  local tries = tonumber(run_record.get(run, "try:" .. given) or nil) or 1
  run_entries.forget(run, given)
  if number then
    note_tries(run, name, tries)
  end
  if outcome == "ok" and number then
    run_steps.succeed_element(run, name, number, body)
  elseif outcome == "ok" then
    run_steps.succeed(run, name, body, place)
  elseif outcome == "failed" and tries < node.tries then
    run_steps.try_again(run, given, tries)
  else
    run_ends.note_done(run, name)
    run_ends.fail(run, name, status, headers, body, number and "Element " .. number .. ": " .. reason or reason)
  end
end

-- The time of a try is over.
local function time_out(run, name)
  run_entries.withdraw(run, name)
  local body = run_ends.error_body(500, "InternalServerException", "Error executing " .. name)
  runs.answer(run.key, name, "failed", 500, run_ends.JSON, body, "No answer within timeout-ms.")
end

-- When the try of a node or an element is over (unix ms); nil if it has no entry.
local function deadline(run, node, name)
  local began = run_entries.began(run, name)
  return began and began + node.timeout
end

-- Ends the tries that are over at this moment, and looks at the run again when the next one is. Returns how many.
function runs.end_overdue(record, now)
  local run, ended, next_look = run_record.open(record), 0, nil
  for name, node in pairs(run and run.plan.nodes or {}) do
    for _, each in ipairs({name, unpack(run_entries.elements(run, name))}) do
      local over = not run.has_ended and deadline(run, node, each)
      if over and over <= now then
        ended = ended + 1
        time_out(run, each)
        over = not run.has_ended and deadline(run, node, each)
      end
      next_look = over and math.min(over, next_look or over) or next_look
    end
  end
  if run and not run.has_ended and next_look then
    run_record.set(run, "watch", false)
    run_record.watch(run, next_look)
  end
  return ended
end

-- Ends a run whose answer is not awaited. Returns whether it had not ended.
function runs.cancel(record)
  local run = run_record.open(record)
  if run then
    run_ends.end_early(run, "cancelled")
    run_record.settle()
  end
  return run ~= nil
end
