-- The elements of a JSON array as they were written: cjson would change long numbers. This text precedes those of runs.
local elements = {MOST = 1000}

-- Where a string ends that begins before `at`.
local function after_string(text, at)
  while true do
    local mark = string.find(text, '["\\]', at)
    if string.sub(text, mark, mark) == '"' then
      return mark + 1
    end
    at = mark + 2 -- the next character is escaped
  end
end

-- Where the array's first element begins. nil for a text that is not a JSON array.
local function beginning(text)
  local at = string.match(text, "^%s*%[()")
  return at and pcall(cjson.decode, text) and at
end

-- One more element than MOST says that there are too many. nil for a text that is not a JSON array.
function elements.of(text)
  local at = beginning(text)
  if not at then
    return nil
  end
  local found, depth, first = {}, 0, at
  if string.find(text, "^%s*%]", at) then
    return found
  end
  while #found <= elements.MOST do
    local mark = string.find(text, '["%[%]{},]', at)
    local char = string.sub(text, mark, mark)
    at = mark + 1
    if char == '"' then
      at = after_string(text, at)
    elseif depth == 0 and (char == "," or char == "]") then
      found[#found + 1] = string.match(string.sub(text, first, mark - 1), "^%s*(.-)%s*$")
      first = at
      if char == "]" then
        break
      end
    elseif char ~= "," then
      depth = depth + ((char == "[" or char == "{") and 1 or -1)
    end
  end
  return found
end

