-- Moves an entry whose body is a file of another host to the front of the queue, for a replica there.
-- KEYS  1 lane (stream)   2 front (stream)
-- ARGV  1 group   2 entry   3 for how long it may be passed on (ms)
-- The field `passed` is the time at which that began. Returns 1 if it was moved or is gone, 0 if it has been
-- passed on for too long: then it stays pending, for the caller to answer.
local MOST_VALUES = 7000 -- of one entry: Lua passes no more than about 8000 to a command
local found = redis.call("XRANGE", KEYS[1], ARGV[2], ARGV[2])[1]
if not found then
  redis.call("XACK", KEYS[1], ARGV[1], ARGV[2])
  return 1
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local since, fields = now, {}
for i = 1, #found[2], 2 do
  if found[2][i] == "passed" then
    since = tonumber(found[2][i + 1]) or 0
  elseif #fields < MOST_VALUES then
    fields[#fields + 1], fields[#fields + 2] = found[2][i], found[2][i + 1]
  end
end
if now - since > tonumber(ARGV[3]) or #found[2] > MOST_VALUES then
  return 0
end
local moved = redis.call("XADD", KEYS[2], "*", "passed", string.format("%d", since), unpack(fields))
note_run(fields, moved, KEYS[2])
redis.call("XACK", KEYS[1], ARGV[1], ARGV[2])
redis.call("XDEL", KEYS[1], ARGV[2])
return 1
