-- Moves the entries of a lost consumer to the front of the queue.
-- KEYS  1 front (stream)   2.. lanes to look through (streams, front included)
-- ARGV  1 group   2 consumer   3 most attempts   4 key prefix of the model's job records
--       5.. "LANE ENTRY" of each entry that it was running
-- An entry that was being run counts one more attempt. After its last attempt, or with too many fields to be
-- moved, it stays pending and is returned, for the caller to answer. Returns a list of
-- {lane, entry, attempts, fields}. Entries that were not being run are moved whatever their attempts: the
-- maximum may have been lowered since.
local MOST = 10000
local MOST_VALUES = 7000 -- of one entry: Lua passes no more than about 8000 to a command
local running, spent = {}, {}
for i = 5, #ARGV do
  running[ARGV[i]] = true
end

-- Returns the fields with the new number of attempts, and the request's id: the first entry's, if not given.
local function with_attempts(fields, entry, attempts)
  local copy, id = {}, nil
  for i = 1, #fields, 2 do
    if fields[i] ~= "attempts" then
      copy[#copy + 1], copy[#copy + 2] = fields[i], fields[i + 1]
    end
    if fields[i] == "id" then
      id = fields[i + 1]
    end
  end
  if not id then
    id = entry
    copy[#copy + 1], copy[#copy + 2] = "id", id
  end
  copy[#copy + 1], copy[#copy + 2] = "attempts", tostring(attempts)
  return copy, id
end

local function number_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return tonumber(fields[i + 1])
    end
  end
end

local function attempts_of(fields)
  return number_of(fields, "attempts") or 0
end

-- The entry's own maximum comes first, except where only one attempt makes sense.
local function most_of(fields)
  local most = tonumber(ARGV[3])
  return most > 1 and number_of(fields, "max_attempts") or most
end

local function requeue(lane, entry)
  local found = redis.call("XRANGE", lane, entry, entry)
  if #found == 0 then
    redis.call("XACK", lane, ARGV[1], entry)
    return
  end
  local fields = found[1][2]
  local ran = running[lane .. " " .. entry]
  local attempts = attempts_of(fields) + (ran and 1 or 0)
  if (ran and attempts >= most_of(fields)) or #fields > MOST_VALUES then
    spent[#spent + 1] = {lane, entry, attempts, fields}
    return
  end
  local copy, id = with_attempts(fields, entry, attempts)
  local moved, record = redis.call("XADD", KEYS[1], "*", unpack(copy)), ARGV[4] .. id
  if redis.call("EXISTS", record) == 1 then
    redis.call("HSET", record, "lane", KEYS[1], "entry", moved, "attempts", attempts)
    redis.call("HDEL", record, "progress")
  end
  note_run(copy, moved, KEYS[1])
  redis.call("XACK", lane, ARGV[1], entry)
  redis.call("XDEL", lane, entry)
end

for i = 2, #KEYS do
  local pending = redis.call("XPENDING", KEYS[i], ARGV[1], "-", "+", MOST, ARGV[2])
  for _, item in ipairs(pending) do
    requeue(KEYS[i], item[1])
  end
  if #spent == 0 and #pending < MOST then
    redis.call("XGROUP", "DELCONSUMER", KEYS[i], ARGV[1], ARGV[2])
  end
end
return spent
