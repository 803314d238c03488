-- Finds the requests without an entry in their lane, at the front or at a seat. Changes nothing.
-- KEYS  1 lane (stream)   2 front (stream)
-- ARGV  entry, id of the request, for each request
-- Returns the ids of those that are missing.
local PAGE = 100
local missing, some = {}, false
for i = 1, #ARGV, 2 do
  if #redis.call("XRANGE", KEYS[1], ARGV[i], ARGV[i]) == 0 then
    missing[ARGV[i + 1]], some = true, true
  end
end

local function forget_those_in(entries)
  for _, entry in ipairs(entries) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == "id" then
        missing[entry[2][i + 1]] = nil
      end
    end
  end
end

local function search(stream)
  local from = "-"
  while from do
    local entries = redis.call("XRANGE", stream, from, "+", "COUNT", PAGE)
    forget_those_in(entries)
    from = #entries == PAGE and "(" .. entries[PAGE][1]
  end
end

if some then
  search(KEYS[2])
  for _, lane in ipairs(seats.lanes(KEYS[2])) do
    search(lane)
  end
end

local ids = {}
for id in pairs(missing) do
  ids[#ids + 1] = id
end
return ids
