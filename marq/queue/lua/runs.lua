-- Runs of workflows, for the scripts that start, advance, time out and end them: this text follows that of run_steps, and
-- precedes theirs. Whatever they change of a run, they change in one step.
local runs = {}

local function note_tries(record, name, tries)
  if tries > tonumber(redis.call("HGET", record, "try:" .. name) or 0) then
    redis.call("HSET", record, "try:" .. name, tries)
  end
end

-- Whether the model of the start node has lanes.
function runs.can_start(record)
  local plan = run_entries.plan_of(record)
  local lane, priority = plan.nodes[plan.start].lane, redis.call("HGET", record, "priority")
  return redis.call("EXISTS", lane[1] .. priority .. lane[2]) == 1
end

-- Queues the start node. Returns its first entry; "0-0" if it has none: where its input is a list, the run may have
-- gone on, or ended.
function runs.start(record)
  local plan = run_entries.plan_of(record)
  run_steps.queue(record, plan, plan.start)
  local at = redis.call("HGET", record, "at:" .. plan.start) or redis.call("HGET", record, "at:" .. run_entries.element_of(plan.start, 0))
  return at and string.match(at, "^%S+") or "0-0"
end

-- A node or an element of its input was answered; the entry is acknowledged. `outcome`: ok; failed, and may be tried
-- again; final, and may not. `status`, `headers` and `body` of a node that has not succeeded are those of the run, if
-- it fails for this `reason`. `place`: see run_steps.succeed.
function runs.answer(record, given, outcome, status, headers, body, reason, place)
  local plan, tries = run_entries.plan_of(record, "try:" .. given)
  local name, number = run_entries.node_of(given)
  local node = plan and plan.nodes[name]
  if not node then
    return -- the run has ended
  end
  tries = tonumber(tries) or 0
  run_entries.forget(record, given)
  if number then
    note_tries(record, name, tries)
  end
  if outcome == "ok" and number then
    run_steps.succeed_element(record, plan, name, number, body)
  elseif outcome == "ok" then
    run_steps.succeed(record, plan, name, body, place)
  elseif outcome == "failed" and tries < node.tries then
    run_steps.try_again(record, plan, name, number)
  else
    if run_entries.is_job(record) then
      redis.call("HSET", record, "done:" .. name, index.text(run_entries.milliseconds()))
    end
    run_ends.fail(record, plan, name, status, headers, body, number and "Element " .. number .. ": " .. reason or reason)
  end
end

-- The time of a try is over.
function runs.time_out(record, name)
  run_entries.withdraw(record, name)
  local body = run_ends.error_body(500, "InternalServerException", "Error executing " .. name)
  runs.answer(record, name, "failed", 500, run_ends.JSON, body, "No answer within timeout-ms.")
end

-- Ends a run whose answer is not awaited. Returns whether it had not ended.
function runs.cancel(record)
  local plan = run_entries.plan_of(record)
  if plan then
    run_ends.end_early(record, plan, "cancelled")
  end
  return plan ~= nil
end
