-- Starts a run of a workflow whose client waits for the answer.
-- KEYS  1 record of the run (hash)
-- ARGV  names and values of its fields, in turns
-- Returns 1; 0 if the model of the start node has no lanes: then there is no run.
redis.call("HSET", KEYS[1], unpack(ARGV))
if runs.start(KEYS[1]) then
  return 1
end
redis.call("DEL", KEYS[1])
return 0
