-- Publishes the answers of nodes of workflows: each only if its entry is still pending, as with jobs. In the same
-- step the nodes that follow are queued, or the run ends.
-- KEYS  lane (stream), record of the run (hash), for each answer
-- ARGV  1 group   then, for each answer: entry, node, outcome (ok, failed, final), status, headers, body, reason,
--       "out:" or "ref:" for the reference of a file as the body
--       of an answer that is not ok: those of the run, if it fails for this reason
local WIDTH = 8
local MOST_IDS = 1000 -- in one command
local of_lanes = {} -- entries by their lanes
for i = 1, #KEYS / 2 do
  local lane = KEYS[2 * i - 1]
  of_lanes[lane] = of_lanes[lane] or {}
  table.insert(of_lanes[lane], ARGV[2 + (i - 1) * WIDTH])
end

-- Takes entries out of their lane, and notes those that were not pending: others have answered them.
local function take(lane, entries, lost)
  if redis.call("XACK", lane, ARGV[1], unpack(entries)) == #entries then
    redis.call("XDEL", lane, unpack(entries))
    return
  end
  for _, entry in ipairs(entries) do
    lost[lane .. " " .. entry] = redis.call("XDEL", lane, entry) == 0 -- what left the group has left the lane
  end
end

local lost = {}
for lane, entries in pairs(of_lanes) do
  for from = 1, #entries, MOST_IDS do
    take(lane, {unpack(entries, from, math.min(from + MOST_IDS - 1, #entries))}, lost)
  end
end
for i = 1, #KEYS / 2 do
  local lane, record, at = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * WIDTH
  if not (next(lost) and lost[lane .. " " .. ARGV[at]]) then
    runs.answer(record, unpack(ARGV, at + 1, at + WIDTH - 1))
  end
end
run_record.settle()
return #KEYS / 2
