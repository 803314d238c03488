-- The ends of runs: this text follows that of run_entries.
local EXPIRED = 504 -- only of a node that has not started before its deadline

local run_ends = {JSON = '{"content-type": "application/json"}'} -- the headers of an answer

function run_ends.error_body(code, kind, message)
  return '{\n  "code": ' .. code .. ',\n  "type": "' .. kind .. '",\n  "message": "' .. message .. '"\n}\n'
end

local function finish_job(record, plan, state, status, headers, body, body_field)
  local now, fields = run_entries.milliseconds(), {"plan", "input", "input_ref", "store", "headers", "params", "type"}
  for name in pairs(plan.nodes) do
    fields[#fields + 1], fields[#fields + 2], fields[#fields + 3] = "out:" .. name, "ref:" .. name, "need:" .. name
  end
  local id, kept, size = unpack(redis.call("HMGET", record, "id", "kept", "size"))
  local job, request_bytes = index.job(record), size or redis.call("HSTRLEN", record, "input")
  redis.call("HDEL", record, unpack(fields))
  redis.call("HSET", record, "state", state, "finished", index.text(now))
  if state ~= "cancelled" then
    redis.call("HSET", record, "status", status, "headers", headers, body_field or "body", body)
  end
  index.finish(job, state, now, kept, status, request_bytes)
  index.settle()
  redis.call("PUBLISH", run_entries.head_of(record) .. "finished", id)
end

local function finish(record, plan, state, status, headers, body, body_field)
  if run_entries.is_job(record) then
    finish_job(record, plan, state, status, headers, body, body_field)
    return
  end
  local id, replies = unpack(redis.call("HMGET", record, "id", "replies"))
  redis.call("DEL", record)
  if state ~= "cancelled" then
    redis.call("XADD", replies, "NOMKSTREAM", "*", "id", id, "status", status, "headers", headers,
      body_field or "body", body)
  end
end

function run_ends.end_early(record, plan, state, status, headers, body)
  for name in pairs(plan.nodes) do
    run_entries.withdraw_all(record, plan, name)
  end
  finish(record, plan, state, status, headers, body)
end

function run_ends.fail(record, plan, name, status, headers, body, reason)
  if run_entries.is_job(record) then
    redis.call("HSET", record, "failed", name, "reason", reason)
  end
  local state = tonumber(status) == EXPIRED and "expired" or "failed"
  run_ends.end_early(record, plan, state, status, headers, body)
end

function run_ends.fail_for(record, plan, name, status, kind, reason)
  run_ends.fail(record, plan, name, status, run_ends.JSON, run_ends.error_body(status, kind, reason), reason)
end

function run_ends.fail_unregistered(record, plan, name)
  local reason = "The model of node " .. name .. " was unregistered."
  run_ends.fail_for(record, plan, name, 503, "ServiceUnavailableException", reason)
end

local function is_object(text)
  return string.find(text, "^%s*{") and pcall(cjson.decode, text)
end

-- The answer of one leaf as it is, and the field that it belongs into; of several, a JSON object of theirs. nil, and
-- the leaf, if one is not an object.
local function result(record, plan)
  if #plan.leaves == 1 then
    return run_entries.answer_of(record, plan.leaves[1])
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
  return "{" .. table.concat(parts, ", ") .. "}", "body"
end

function run_ends.finish_leaf(record, plan)
  if redis.call("HINCRBY", record, "ended", 1) < #plan.leaves then
    return
  end
  local body, about = result(record, plan)
  if body then
    finish(record, plan, "succeeded", 200, run_ends.JSON, body, about)
  else
    local reason = "The answer of node " .. about .. " is not a JSON object."
    run_ends.fail_for(record, plan, about, 500, "InternalServerException", reason)
  end
end
