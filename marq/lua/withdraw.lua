-- Takes a request out of its lane, unless a replica has it already.
-- KEYS  1 lane (stream)
-- ARGV  1 group   2 entry   3 "1": in any case, as it streams: its replica notices, and stops
-- Returns 1 if it was taken out.
if ARGV[3] == "1" then
  redis.call("XACK", KEYS[1], ARGV[1], ARGV[2])
elseif #redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) > 0 then
  return 0
end
return redis.call("XDEL", KEYS[1], ARGV[2])
