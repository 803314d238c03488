-- Closes a group: no more jobs of it come. It is finished if all that it has have ended.
-- KEYS  1 group (hash)
local head, name = string.match(KEYS[1], "^(.-}:)group:(.*)$")
local time = redis.call("TIME")
ends.close(head, name, string.format("%d", tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)))
