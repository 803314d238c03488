-- The ends of runs: this text follows that of run_entries.
local EXPIRED = 504 -- only of a node that has not started before its deadline

local run_ends = {JSON = '{"content-type": "application/json"}'} -- the headers of an answer

function run_ends.error_body(code, kind, message)
  return '{\n  "code": ' .. code .. ',\n  "type": "' .. kind .. '",\n  "message": "' .. message .. '"\n}\n'
end

function run_ends.milliseconds()
  return math.floor(index.now() / 1000)
end

-- A node of a job has its last answer.
function run_ends.note_done(run, name)
  if run.is_job then
    run_record.set(run, "done:" .. name, index.text(run_ends.milliseconds()))
  end
end

local function finish_job(run, state, status, headers, body, body_field)
  local now, set = run_ends.milliseconds(), run_record.set
  local request_bytes = run_record.get(run, "size") or redis.call("HSTRLEN", run.key, "input")
  for _, field in ipairs({"plan", "input", "input_ref", "store", "headers", "params", "type", "watch", "ended"}) do
    set(run, field, false)
  end
  for name in pairs(run.plan.nodes) do
    for _, field in ipairs({"out:", "ref:", "need:", "at:"}) do
      set(run, field .. name, false)
    end
  end
  set(run, "state", state)
  set(run, "finished", index.text(now))
  if state ~= "cancelled" then
    set(run, "status", status)
    set(run, "headers", headers)
    set(run, body_field, body)
  end
  local job = index.job(run.key)
  run_record.close(run)
  index.finish(job, state, now, run_record.get(run, "kept"), status, request_bytes)
  redis.call("PUBLISH", run.head .. "finished", run_record.get(run, "id"))
end

local function finish(run, state, status, headers, body, body_field)
  if run.is_job then
    finish_job(run, state, status, headers, body, body_field)
    return
  end
  run.changed = {}
  run_record.close(run)
  if state ~= "cancelled" then
    run_record.reply(run, status, headers, body, body_field)
  end
end

function run_ends.end_early(run, state, status, headers, body)
  for name in pairs(run.plan.nodes) do
    run_entries.withdraw_all(run, name)
  end
  finish(run, state, status, headers, body, "body")
end

function run_ends.fail(run, name, status, headers, body, reason)
  if run.is_job then
    run_record.set(run, "failed", name)
    run_record.set(run, "reason", reason)
  end
  local state = tonumber(status) == EXPIRED and "expired" or "failed"
  run_ends.end_early(run, state, status, headers, body)
end

function run_ends.fail_for(run, name, status, kind, reason)
  run_ends.fail(run, name, status, run_ends.JSON, run_ends.error_body(status, kind, reason), reason)
end

function run_ends.fail_unregistered(run, name)
  local reason = "The model of node " .. name .. " was unregistered."
  run_ends.fail_for(run, name, 503, "ServiceUnavailableException", reason)
end

local function is_object(text)
  return string.find(text, "^%s*{") and pcall(cjson.decode, text)
end

-- A JSON object of the answers of several leaves. nil, and the leaf, if one is not an object.
local function object_of(run)
  local parts = {}
  for _, name in ipairs(run.plan.leaves) do
    local out = run_record.get(run, "out:" .. name)
    if out and not is_object(out) then
      return nil, name
    elseif out then -- false: the leaf was not chosen
      parts[#parts + 1] = '"' .. name .. '": ' .. out
    end
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- The only leaf of a run has its answer, which is that of the run.
function run_ends.finish_with(run, body, place)
  finish(run, "succeeded", 200, run_ends.JSON, body, place == "ref:" and "body_ref" or "body")
end

-- One more of several leaves has its answer, or was left out.
function run_ends.finish_leaf(run)
  local ended = run_record.number(run, "ended") + 1
  run_record.set(run, "ended", ended)
  if ended < #run.plan.leaves then
    return
  end
  local body, about = object_of(run)
  if body then
    run_ends.finish_with(run, body, "out:")
  else
    local reason = "The answer of node " .. about .. " is not a JSON object."
    run_ends.fail_for(run, about, 500, "InternalServerException", reason)
  end
end
