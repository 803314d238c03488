-- What follows the end of jobs, for the scripts that have the index: this text precedes its own.
-- KEY "marq:{MODEL}:job-ends" (stream): jobs that have ended, while it is read (marq/jobs/ends.py).
--   id state version tags status     of the job
--   queued ended                     unix ms
--   request_bytes                    0 where that is not known
--   answer_bytes, or answer_ref      the file with the answer
-- KEY "marq:{MODEL}:webhooks:due" (sorted set): ids of messages of webhooks by the moment when each is sent, or sent
-- again (unix ms).
-- KEY "marq:{MODEL}:webhook:ID" (hash): one message.
-- KEY "marq:{MODEL}:group:NAME" (hash): a group, whose jobs have the tag `group=NAME`: `left` (jobs that have not
-- ended), how many have ended in each state, `uploading` while more jobs may come, `finished` (unix ms) once all have
-- ended and no more come, `webhook`, `tags`, `version`, and `ttl` (ms): how long it is kept after that.
-- KEY "marq:{MODEL}:uploads" (sorted set): groups that are still uploaded, by the moment (unix ms) at which their
-- gateway counts as lost.
local MOST_ENDS = 100000 -- in the log of jobs that have ended
local FINAL = {"succeeded", "failed", "expired", "cancelled"}
local ends = {}
local logs = {} -- by head, in this call

-- Whether the log of jobs that have ended exists: it does while it is read.
function ends.are_read(head)
  if logs[head] == nil then
    logs[head] = redis.call("EXISTS", head .. "job-ends") == 1
  end
  return logs[head]
end

-- `now_ms` is a text.
function ends.log(head, id, job, state, now_ms, status, request_bytes)
  if not ends.are_read(head) then
    return
  end
  local queued, ref = unpack(redis.call("HMGET", job.record, "queued", "body_ref"))
  local name = ref and "answer_ref" or "answer_bytes"
  redis.call("XADD", head .. "job-ends", "MAXLEN", "~", MOST_ENDS, "*", "id", id, "state", state,
    "version", job.version, "tags", job.tags, "status", status or "", "queued", queued or now_ms, "ended", now_ms,
    "request_bytes", request_bytes or 0, name, ref or redis.call("HSTRLEN", job.record, "body"))
end

-- `about`: the record that the message is about; with the time it makes the message's id.
local function leave(head, about, now_ms, ...)
  local message = about .. " " .. now_ms
  repeat -- a job that is retried may end twice in one millisecond
    message = "msg_" .. redis.sha1hex(message)
  until redis.call("EXISTS", head .. "webhook:" .. message) == 0
  redis.call("HSET", head .. "webhook:" .. message, "ended", now_ms, ...)
  redis.call("ZADD", head .. "webhooks:due", now_ms, message)
end

-- Leaves a message about the end of a job, if its webhook asks for this state: marq/webhooks delivers it. `now_ms` is
-- a text.
function ends.announce(head, id, job, state, now_ms, status)
  local events = redis.call("HGET", job.record, "webhook_events") or state
  if string.find("," .. events .. ",", "," .. state .. ",", 1, true) then
    leave(head, job.record, now_ms, "url", job.webhook, "job", id, "version", job.version, "state", state,
      "status", status or "", "tags", job.tags)
  end
end

-- The record of the group that the tags name; nil without one.
local function group_of(head, tags)
  local name = tags ~= "" and string.match("," .. tags, ".*,group=([^,]+)") -- marq's own tag is the last
  local record = name and head .. "group:" .. name
  return record and redis.call("EXISTS", record) == 1 and record or nil
end

-- The group of these tags has this many more jobs that have not ended. `state`: the one in which they had ended.
function ends.begin(head, tags, number, state)
  local group = group_of(head, tags)
  if group then
    redis.call("HINCRBY", group, "left", number)
    redis.call("HDEL", group, "finished")
    redis.call("PERSIST", group)
    if state then
      redis.call("HINCRBY", group, state, -number)
    end
  end
end

-- Finishes a group whose jobs have all ended, once; its webhook gets a message.
local function finish(head, group, now_ms)
  local left, uploading, finished, ttl, webhook = unpack(
    redis.call("HMGET", group, "left", "uploading", "finished", "ttl", "webhook"))
  if left ~= "0" or uploading then
    return
  end
  redis.call("PEXPIRE", group, ttl)
  if finished then
    return
  end
  redis.call("HSET", group, "finished", now_ms)
  if webhook then
    local message = {"url", webhook, "group", string.match(group, "}:group:(.*)$")}
    for _, field in ipairs({"version", "tags", unpack(FINAL)}) do
      message[#message + 1], message[#message + 2] = field, redis.call("HGET", group, field) or ""
    end
    leave(head, group, now_ms, unpack(message))
  end
end

-- This many jobs with these tags have ended in this state. `now_ms` is a text.
function ends.count(head, tags, number, state, now_ms)
  local group = group_of(head, tags)
  if group then
    redis.call("HINCRBY", group, state, number)
    if redis.call("HINCRBY", group, "left", -number) == 0 then
      finish(head, group, now_ms)
    end
  end
end

-- No more jobs of a group come.
function ends.close(head, name, now_ms)
  local group = head .. "group:" .. name
  redis.call("ZREM", head .. "uploads", name)
  if redis.call("HDEL", group, "uploading") == 1 then
    finish(head, group, now_ms)
  end
end

-- Closes the groups whose gateway has ended during the upload.
function ends.close_lost(head, now_ms)
  for _, name in ipairs(redis.call("ZRANGEBYSCORE", head .. "uploads", "-inf", now_ms, "LIMIT", 0, 100)) do
    ends.close(head, name, now_ms)
  end
end

