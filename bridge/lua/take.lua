-- Moves messages from the lists of a queue to the list of taken messages: these are the bridge's until it has
-- queued them, also after it was killed.
-- KEYS  1 taken (list)   2.. lists of the queue, in the order of their priority
-- ARGV  1 how many messages the bridge takes at a time
-- Returns all taken messages.
local left = tonumber(ARGV[1]) - redis.call("LLEN", KEYS[1])
for i = 2, #KEYS do
  if left > 0 then
    local found = redis.call("RPOP", KEYS[i], left)
    if found and #found > 0 then
      redis.call("RPUSH", KEYS[1], unpack(found))
      left = left - #found
    end
  end
end
return redis.call("LRANGE", KEYS[1], 0, -1)
