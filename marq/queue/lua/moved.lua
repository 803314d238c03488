-- A run of a workflow knows where the entries of its nodes are, for the scripts that move entries: this text precedes
-- theirs.

-- An entry with these fields, if it is one of a node, is now this one of this lane.
local function note_run(fields, entry, lane)
  local run, node
  for i = 1, #fields, 2 do
    run = fields[i] == "run" and fields[i + 1] or run
    node = fields[i] == "node" and fields[i + 1] or node
  end
  local at = run and node and redis.call("HGET", run, "at:" .. node)
  local queued, moved = string.match(at or "", "^(%d+)%-%d+@?(%d*) ") -- see run_record.lua
  if queued then
    local began = moved ~= "" and moved or queued
    redis.call("HSET", run, "at:" .. node, entry .. "@" .. began .. " " .. lane)
  end
end

