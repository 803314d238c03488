-- Reads dead letters without their bodies, which may be large. Changes nothing.
-- KEYS  1 dead letters (stream)
-- ARGV  1 XRANGE or XREVRANGE   2 from   3 to   4 how many at most
-- Returns a list of {id, size of the body (-1: no body), the other fields}.
local function without_body(fields)
  local others, size = {}, -1
  for i = 1, #fields, 2 do
    if fields[i] == "body" then
      size = #fields[i + 1]
    else
      others[#others + 1], others[#others + 2] = fields[i], fields[i + 1]
    end
  end
  return size, others
end

local letters, from = {}, ARGV[2]
for i = 1, tonumber(ARGV[4]) do
  local found = redis.call(ARGV[1], KEYS[1], from, ARGV[3], "COUNT", 1)[1]
  if not found then
    break
  end
  local size, others = without_body(found[2])
  letters[i] = {found[1], size, others}
  from = "(" .. found[1]
end
return letters
