-- A run of a workflow knows where the entries of its nodes are, for the scripts that move entries: this text precedes
-- theirs.

-- An entry with these fields, if it is one of a node, is now this one of this lane.
local function note_run(fields, entry, lane)
  local run, node
  for i = 1, #fields, 2 do
    run = fields[i] == "run" and fields[i + 1] or run
    node = fields[i] == "node" and fields[i + 1] or node
  end
  if run and node and redis.call("HEXISTS", run, "at:" .. node) == 1 then
    redis.call("HSET", run, "at:" .. node, entry .. " " .. lane)
  end
end

