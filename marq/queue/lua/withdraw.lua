-- Removes a request from its lane, from the front after a redelivery, or from a seat. A running request is not run again.
-- KEYS  1 lane (stream)   2 front (stream)
-- ARGV  1 group   2 entry   3 id of the request
-- Returns 1 if it was found.
local PAGE = 100

local function take(stream, entry)
  redis.call("XACK", stream, ARGV[1], entry)
  return redis.call("XDEL", stream, entry)
end

local function is_wanted(fields)
  for i = 1, #fields, 2 do
    if fields[i] == "id" and fields[i + 1] == ARGV[3] then
      return true
    end
  end
end

if take(KEYS[1], ARGV[2]) == 1 then
  return 1
end
local function find(stream)
  local from = "-"
  while from do
    local entries = redis.call("XRANGE", stream, from, "+", "COUNT", PAGE)
    for _, entry in ipairs(entries) do
      if is_wanted(entry[2]) then
        return take(stream, entry[1])
      end
    end
    from = #entries == PAGE and "(" .. entries[PAGE][1]
  end
end

for _, stream in ipairs({KEYS[2], unpack(seats.lanes(KEYS[2]))}) do
  if find(stream) then
    return 1
  end
end
return 0
