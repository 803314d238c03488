-- Moves an entry that is given up to its model's dead letters, and keeps these within their bounds.
-- KEYS  1 dead letters (stream)   2 lane (stream)
-- ARGV  1 group   2 entry   3 1: acknowledge it; 0: the caller's transaction does so, with the answer
--       4 how long letters are kept (ms)   5 most bytes   6 key prefix of the model's job records
--       7 how long a finished job is kept (ms)   8 channel of finished jobs   9 status   10 headers   11 body
--       12 body of the letter, if the entry has only a reference to a file that ends with the request; else empty
--       13.. the leading fields of the letter: name, value, ...
-- With the acknowledgement a job of this entry fails, with this status, headers and body.
-- A letter has the leading fields, then the entry's fields except `attempts`, which is among the leading ones. It has
-- the body where the entry has a reference to a key.
-- The newest letter stays, however large it is. Returns the letter's id; nil if the entry is already settled.
local FIRST = 13
local MOST_VALUES = 7000 -- of one entry: Lua passes no more than about 8000 to a command
local SHARE = 256 -- measuring costs time with the number of letters: it is done for each such part of the limit
local MEANT = {}
for name in string.gmatch("body body_ref id type headers path params reply replies job deadline trace replay_of", "%S+") do
  MEANT[name] = true
end

-- The body that ends with the request, which the letter has instead of the reference; nil without one.
local function body_of(fields)
  local ref = index.field(fields, "body_ref") or ""
  if ARGV[12] ~= "" or not string.find(ref, "^body:") then
    return ARGV[12] ~= "" and ARGV[12] or nil
  end
  local found = redis.pcall("GET", index.head(KEYS[2]) .. ref) -- a producer may have made it, of any type
  return type(found) == "string" and found or nil
end

-- Adds the fields; of an entry that has too many to be moved, those that mean something.
local function copy(fields, letter, body)
  local few, last = #fields <= MOST_VALUES, {}
  for i = 1, #fields, 2 do
    last[fields[i]] = i
  end
  for i = 1, #fields, 2 do
    local name = fields[i]
    if name ~= "attempts" and not (name == "body_ref" and body) and (few or (MEANT[name] and last[name] == i)) then
      letter[#letter + 1], letter[#letter + 2] = name, fields[i + 1]
    end
  end
end

local function size_of(values)
  local size = 0
  for _, value in ipairs(values) do
    size = size + #value
  end
  return size
end

local function used()
  return redis.call("MEMORY", "USAGE", KEYS[1], "SAMPLES", 0) or 0
end

-- Removes the oldest letters, so many that their fields have this size.
local function drop(excess)
  while excess > 0 and redis.call("XLEN", KEYS[1]) > 1 do
    local oldest = redis.call("XRANGE", KEYS[1], "-", "+", "COUNT", 1)[1]
    redis.call("XDEL", KEYS[1], oldest[1])
    excess = excess - size_of(oldest[2])
  end
end

-- Only the job that was queued with this very entry: anybody can write the id of another one into his own.
local function fail_job(fields, now)
  local id
  for i = 1, #fields, 2 do
    id = fields[i] == "id" and fields[i + 1] or id
  end
  if not id then
    return
  end
  local job = index.job(ARGV[6] .. id)
  local lane, entry = unpack(redis.call("HMGET", job.record, "lane", "entry"))
  if job.state == "queued" and lane == KEYS[2] and entry == ARGV[2] then
    redis.call("HSET", job.record, "state", "failed", "finished", string.format("%d", now),
      "status", ARGV[9], "headers", ARGV[10], "body", ARGV[11])
    index.finish(job, "failed", now, ARGV[7], ARGV[9], index.size_of(fields))
    index.settle()
    redis.call("PUBLISH", ARGV[8], id)
  end
end

local found = redis.call("XRANGE", KEYS[2], ARGV[2], ARGV[2])[1]
if not found then
  redis.call("XACK", KEYS[2], ARGV[1], ARGV[2])
  return nil
end
local letter = {unpack(ARGV, FIRST)}
local body = body_of(found[2])
copy(found[2], letter, body)
if body then
  letter[#letter + 1], letter[#letter + 2] = "body", body
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- Trimmed first: a script that has begun to write is not refused where Redis is full, and this only moves.
redis.call("XTRIM", KEYS[1], "MINID", "=", string.format("%d", now - tonumber(ARGV[4])))
local id = redis.call("XADD", KEYS[1], "*", unpack(letter))
redis.call("PEXPIRE", KEYS[1], ARGV[4])
local ref = index.field(found[2], "body_ref")
if ref and index.is_kept(ref) then
  index.hold(index.head(KEYS[2]), ref, "letter " .. id)
end
if ARGV[3] == "1" then
  redis.call("XACK", KEYS[2], ARGV[1], ARGV[2])
  redis.call("XDEL", KEYS[2], ARGV[2])
  fail_job(found[2], now)
end
local most = tonumber(ARGV[5])
if tonumber(time[2]) % 1000 < 1000 * SHARE * size_of(letter) / most then
  local excess = used() - most
  while excess > 0 and redis.call("XLEN", KEYS[1]) > 1 do
    drop(excess)
    excess = used() - most
  end
end
return id
