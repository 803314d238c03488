-- How many entries wait in each lane of a model version, and since when. Changes nothing.
-- KEYS  lanes (streams), those of seats last   ARGV  1 group  2 number of other lanes  3 maximum batch size
-- Returns {waiting entries, age of the oldest of them in ms, age of the oldest entry in ms} for each lane; an
-- age is -1 without such an entry. An entry stays in its lane until it is answered. Jobs that are held back (see
-- callers.lua) wait, too. The replica of a seat reads its lane ahead: all entries beyond a batch wait.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function group(lane)
  for _, flat in ipairs(redis.call("XINFO", "GROUPS", lane)) do
    local found = {}
    for i = 1, #flat, 2 do
      found[flat[i]] = flat[i + 1]
    end
    if found.name == ARGV[1] then
      return found
    end
  end
  return {}
end

local function age(lane, start)
  local oldest = redis.call("XRANGE", lane, start, "+", "COUNT", 1)[1]
  return oldest and math.max(0, now - tonumber(string.match(oldest[1], "^%d+"))) or -1
end

local function held(lane)
  local head, name, version = string.match(lane, "^(.-}:)([^:]+):(.*)$")
  return tonumber(redis.call("HGET", head .. "held-counts:" .. version, name) or 0)
end

local function depth(lane, is_seat)
  local length = redis.call("XLEN", lane)
  if length == 0 then
    return {held(lane), -1, -1}
  end
  local replicas = group(lane)
  local taken = replicas.pending or 0
  if is_seat then
    taken = math.min(taken, tonumber(ARGV[3]))
  end
  local waiting = math.max(0, length - taken)
  return {waiting + held(lane), age(lane, "(" .. (replicas["last-delivered-id"] or "0-0")), age(lane, "-")}
end

local lanes = {}
for i = 1, #KEYS do
  lanes[i] = depth(KEYS[i], i > tonumber(ARGV[2]))
end
return lanes
