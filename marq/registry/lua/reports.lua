-- Reads the pools' reports of all versions in one command.
-- KEYS  1 registry (hash)
-- ARGV  1 form of the keys of reports, with "%s" for the model and for the version
-- Returns {version's key, {pool, report, ...}} for each version that has reports: most versions have none.
local found = {}
for _, version in ipairs(redis.call("HKEYS", KEYS[1])) do
  local reports = redis.call("HGETALL", string.format(ARGV[1], string.match(version, "^([^/]*)/(.*)$")))
  if #reports > 0 then
    found[#found + 1] = {version, reports}
  end
end
return found
