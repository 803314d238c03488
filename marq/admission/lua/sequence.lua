-- The sequences of a model version, for the scripts that change them: this text precedes theirs.
-- KEY "marq:{MODEL}:seats:VERSION" (sorted set): the replicas that take new sequences, by the number of theirs
-- KEY "marq:{MODEL}:seat-owners:VERSION" (hash): seat -> consumer, of these and of replicas that are ending
-- KEY "marq:{MODEL}:seat-SEAT:VERSION" (stream): the requests of the sequences of one replica
-- KEY "marq:{MODEL}:sequences:VERSION" (sorted set): ids of open sequences by the moment of their end (unix ms)
-- KEY "marq:{MODEL}:sequence-records:VERSION" (hash): id -> MessagePack of {seat, opened, entries}
-- Limits: `queued`, requests of a sequence beside the one that runs; `sequences`, open ones; `idle`, `timeout`
-- (ms; 0: none).
local MOST_ENDED = 100 -- in one call

local sequence = {}

function sequence.text(number)
  return string.format("%.0f", number)
end

function sequence.now()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The keys of a version, from the key of its seats.
function sequence.keys(seats)
  local head, version = string.match(seats, "^(.-}:)seats:(.*)$")
  return {
    seats = seats, owners = head .. "seat-owners:" .. version, ends = head .. "sequences:" .. version,
    records = head .. "sequence-records:" .. version, head = head, version = version,
  }
end

function sequence.limits(at)
  return {
    queued = tonumber(ARGV[at]), sequences = tonumber(ARGV[at + 1]), idle = tonumber(ARGV[at + 2]),
    timeout = tonumber(ARGV[at + 3]),
  }
end

function sequence.lane(keys, seat)
  return keys.head .. "seat-" .. seat .. ":" .. keys.version
end

function sequence.load(keys, id)
  local packed = redis.call("HGET", keys.records, id)
  return packed and cmsgpack.unpack(packed)
end

function sequence.close(keys, id, record)
  redis.call("HDEL", keys.records, id)
  redis.call("ZREM", keys.ends, id)
  if record and redis.call("ZSCORE", keys.seats, record.seat) then
    redis.call("ZINCRBY", keys.seats, -1, record.seat)
  end
end

-- Stores a record after activity now.
function sequence.save(keys, id, record, limits, now)
  local ends = now + limits.idle
  if limits.timeout > 0 then
    ends = math.min(ends, record.opened + limits.timeout)
  end
  redis.call("ZADD", keys.ends, sequence.text(ends), id)
  redis.call("HSET", keys.records, id, cmsgpack.pack(record))
end

-- Forgets the requests of a sequence that have been answered or cancelled.
local function prune(keys, record)
  local lane, left = sequence.lane(keys, record.seat), {}
  for _, entry in ipairs(record.entries) do
    if #redis.call("XRANGE", lane, entry, entry) > 0 then
      left[#left + 1] = entry
    end
  end
  record.entries = left
end

-- Closes the sequences whose time is over. One whose requests wait or run is not idle.
function sequence.tidy(keys, limits, now)
  local over = redis.call("ZRANGEBYSCORE", keys.ends, "-inf", sequence.text(now), "LIMIT", 0, MOST_ENDED)
  for _, id in ipairs(over) do
    local record = sequence.load(keys, id)
    if record then
      prune(keys, record)
    end
    if not record or #record.entries == 0 or (limits.timeout > 0 and record.opened + limits.timeout <= now) then
      sequence.close(keys, id, record)
    else
      sequence.save(keys, id, record, limits, now)
    end
  end
end

-- The record of an open sequence, or of a new one; or nil and the limit that refuses its next request:
-- "queued", "sequences", or "seats" where no replica takes a new sequence.
function sequence.find(keys, id, limits, now)
  local record = sequence.load(keys, id)
  if record and redis.call("HEXISTS", keys.owners, record.seat) == 0 then
    sequence.close(keys, id, record)
    record = nil
  end
  if record then
    if #record.entries > limits.queued then
      prune(keys, record)
    end
    if #record.entries > limits.queued then
      return nil, "queued"
    end
    return record
  end
  if redis.call("HLEN", keys.records) >= limits.sequences then
    return nil, "sequences"
  end
  local seat = redis.call("ZRANGE", keys.seats, 0, 0)[1]
  if not seat then
    return nil, "seats"
  end
  redis.call("ZINCRBY", keys.seats, 1, seat)
  return {seat = seat, opened = now, entries = {}}
end

-- Queues a request of the sequence; closes it, if that was the last one. Returns its lane and entry.
function sequence.add(keys, id, record, fields, is_last, limits, now)
  local lane = sequence.lane(keys, record.seat)
  local entry = redis.call("XADD", lane, "*", unpack(fields))
  record.entries[#record.entries + 1] = entry
  sequence.save(keys, id, record, limits, now)
  if is_last then
    sequence.close(keys, id, record)
  end
  return lane, entry
end

