-- Queues a dead letter's request again, as a job with a new id; the letter is removed.
-- KEYS  1 dead letters (stream)   2 lane (stream)   3 job record (hash)
-- ARGV  1 letter   2 how many of its values are about its end   3 id of the job   4 version   5 now (unix ms)
--       6 id of the request before it was replayed   7 bytes of a body above which it becomes a key
-- Reply stream and deadline belonged to the first request: they are left out, as its file, unless that is one of jobs.
-- Returns 1; 0 if the letter is gone.
local DROPPED = {}
for name in string.gmatch("id attempts deadline reply replies job replay_of body_ref run node", "%S+") do
  DROPPED[name] = true
end

local letter = redis.call("XRANGE", KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
local head, request = index.head(KEYS[2]), {"id", ARGV[3], "job", "1", "replay_of", ARGV[6]}
local body = index.field(letter[2], "body")
local is_key = body and #body > tonumber(ARGV[7])
for i = tonumber(ARGV[2]) + 1, #letter[2], 2 do
  local name, value = letter[2][i], letter[2][i + 1]
  local is_kept = name == "body_ref" and index.is_kept(value)
  if is_kept then
    index.hold(head, value, "job " .. ARGV[3])
  end
  if is_kept or not (DROPPED[name] or (is_key and (name == "body" or name == "size"))) then
    request[#request + 1], request[#request + 2] = name, value
  end
end
if is_key then
  local ref = index.keep_body(head, ARGV[3], ARGV[4], body)
  for _, value in ipairs({"body_ref", ref, "size", index.text(#body)}) do
    request[#request + 1] = value
  end
end
local entry = redis.call("XADD", KEYS[2], "*", unpack(request))
local tags, priority = index.field(request, "tags") or "", index.priority(KEYS[2])
redis.call("HSET", KEYS[3], "state", "queued", "version", ARGV[4], "queued", ARGV[5], "lane", KEYS[2],
  "entry", entry, "priority", priority, "tags", tags, "replay_of", ARGV[6])
for _, name in ipairs({"webhook", "webhook_events"}) do
  local value = index.field(request, name)
  if value then
    redis.call("HSET", KEYS[3], name, value)
  end
end
index.add(head, priority, tags, ARGV[4], {index.text(index.now()), ARGV[3]})
redis.call("XDEL", KEYS[1], ARGV[1])
return 1
