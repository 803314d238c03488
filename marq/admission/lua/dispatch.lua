-- Moves the requests that wait in the lanes to the replicas that have their sequences. A request without the
-- field `sequence` is a sequence of its own.
-- KEYS  1 seats (sorted set)   2.. lanes (streams) in the order in which they are read
-- ARGV  1 group   2 consumer   3 how many of each lane   4 key prefix of the model's job records
--       5 limits: queued   6 sequences   7 idle   8 time-out
-- Returns {lane, entry, fields, limit} of each request that a limit refuses: the consumer holds it, and answers
-- it.
local MOST_VALUES = 7000 -- of one entry: Lua passes no more than about 8000 to a command
local keys, limits, now, refused = sequence.keys(KEYS[1]), sequence.limits(5), sequence.now(), {}

local function read(fields)
  local given = {}
  for i = 1, #fields, 2 do
    given[fields[i]] = fields[i + 1]
  end
  return given
end

local function move(lane, entry, fields)
  local given = read(fields)
  local id = given.sequence
  if not given.id then
    fields[#fields + 1], fields[#fields + 2] = "id", entry
  end
  if not id or id == "" then
    id = "ts-seq-" .. entry
    fields[#fields + 1], fields[#fields + 2] = "sequence", id
    fields[#fields + 1], fields[#fields + 2] = "sequence_start", "1"
  end
  local record, limit
  if #fields <= MOST_VALUES then
    record, limit = sequence.find(keys, id, limits, now)
  end
  if not record then
    refused[#refused + 1] = {lane, entry, fields, limit or "fields"}
    return
  end
  local seat_lane, moved = sequence.add(keys, id, record, fields, given.sequence_end == "1", limits, now)
  local job = ARGV[4] .. (given.id or entry)
  if redis.call("EXISTS", job) == 1 then
    redis.call("HSET", job, "lane", seat_lane, "entry", moved)
  end
  note_run(fields, moved, seat_lane)
  redis.call("XACK", lane, ARGV[1], entry)
  redis.call("XDEL", lane, entry)
end

if redis.call("ZCARD", KEYS[1]) == 0 then
  return refused -- they wait for a replica
end
local is_tidy = false
for i = 2, #KEYS do
  if redis.call("XLEN", KEYS[i]) > 0 then
    if not is_tidy then
      sequence.tidy(keys, limits, now)
      is_tidy = true
    end
    local found = redis.call("XREADGROUP", "GROUP", ARGV[1], ARGV[2], "COUNT", ARGV[3], "STREAMS", KEYS[i], ">")
    for _, item in ipairs(found and found[1] and found[1][2] or {}) do
      move(KEYS[i], item[1], item[2])
    end
  end
end
return refused
