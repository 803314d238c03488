-- The seats of a model version (see marq/admission), for the scripts that look for a request there: this text
-- precedes theirs.
local seats = {}

-- The lanes of all seats, from the key of the front.
function seats.lanes(front)
  local head, version = string.match(front, "^(.-}:)front:(.*)$")
  local lanes = {}
  if head then
    for i, seat in ipairs(redis.call("HKEYS", head .. "seat-owners:" .. version)) do
      lanes[i] = head .. "seat-" .. seat .. ":" .. version
    end
  end
  return lanes
end

