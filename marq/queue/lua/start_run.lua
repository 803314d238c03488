-- Starts runs of workflows, each once.
-- KEYS  record (hash) of each run
-- ARGV  for each run: digest of its request, or empty; number of the values that follow; names and values of the fields
--       of its record, in turns
-- Returns for each run 1; 0 if the model of the start node has no lanes: then there is no run. If the run exists: 2,
-- and -1 where it has another digest.
local function begin(record, digest, fields)
  if redis.call("EXISTS", record) == 1 then
    return (redis.call("HGET", record, "digest") or "") == digest and 2 or -1
  end
  local run = run_record.new(record, fields)
  if not runs.can_start(run) then
    run.changed = {}
    return 0
  end
  if run.is_job then
    run_record.set(run, "digest", digest)
    run_record.save(run) -- the index reads it
    local head, id = index.split(record)
    local get = run_record.get
    index.add(head, get(run, "priority"), get(run, "tags"), get(run, "version"), {index.text(index.now()), id})
  end
  local entry = runs.start(run)
  if run.is_job and not run.has_ended then
    run_record.set(run, "entry", entry)
  end
  return 1
end

local started, at = {}, 1
for i, record in ipairs(KEYS) do
  local last = at + 1 + tonumber(ARGV[at + 1])
  started[i] = begin(record, ARGV[at], {unpack(ARGV, at + 2, last)})
  at = last + 1
end
run_record.settle()
return started
