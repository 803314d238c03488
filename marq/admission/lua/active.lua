-- Notes that requests of sequences have been answered: these have been active now. Closes those that the handler
-- has ended.
-- KEYS  1 seats (sorted set)
-- ARGV  1 limits: queued   2 sequences   3 idle   4 time-out   5 how many were active   6.. their ids, then those
--       of the ended ones
local keys, limits, now = sequence.keys(KEYS[1]), sequence.limits(1), sequence.now()
for i = 6, #ARGV do
  local record = sequence.load(keys, ARGV[i])
  if record and i < 6 + tonumber(ARGV[5]) then
    sequence.save(keys, ARGV[i], record, limits, now)
  elseif record then
    sequence.close(keys, ARGV[i], record)
  end
end
