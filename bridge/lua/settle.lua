-- Forgets tasks whose results are written, and notes that in the records of their jobs: a message that is
-- delivered again then writes nothing.
-- KEYS  1 waiting tasks (hash)   2.. job records (hashes)
-- ARGV  the ids of the tasks, in the same order
for i, id in ipairs(ARGV) do
  redis.call("HDEL", KEYS[1], id)
  if redis.call("EXISTS", KEYS[i + 1]) == 1 then
    redis.call("HSET", KEYS[i + 1], "celery", "written")
  end
end
return #ARGV
