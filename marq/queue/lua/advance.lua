-- Publishes the answers of nodes of workflows: each only if its entry is still pending, as with jobs. In the same
-- step the nodes that follow are queued, or the run ends.
-- KEYS  lane (stream), record of the run (hash), for each answer
-- ARGV  1 group   then, for each answer: entry, node, outcome (ok, failed, final), status, headers, body, reason,
--       "out:" or "ref:" for the reference of a file as the body
--       of an answer that is not ok: those of the run, if it fails for this reason
local WIDTH = 8
for i = 1, #KEYS / 2 do
  local lane, record, at = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * WIDTH
  if redis.call("XACK", lane, ARGV[1], ARGV[at]) == 1 then
    redis.call("XDEL", lane, ARGV[at])
    runs.answer(record, unpack(ARGV, at + 1, at + WIDTH - 1))
  end
end
return #KEYS / 2
