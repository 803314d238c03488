-- When a job that the handler failed is tried again, as its entry asks: `retries` times at most, for the statuses in
-- `retry_on`, after `retry_delay` ms, then twice as long, and so on. This text follows that of the index.
local RETRIED = "429,500,502,503,504" -- statuses
local FIRST_DELAY, LONGEST_DELAY = 1000, 3600000 -- ms
local job_backoff = {}

-- The time until the next try in ms; nil if there is none. Its jitter, which follows from a `number`, is half of it.
function job_backoff.delay(fields, record, status, number)
  local most = tonumber(index.field(fields, "retries")) or 0
  local retried = tonumber(redis.call("HGET", record, "retried") or 0)
  local statuses = "," .. (index.field(fields, "retry_on") or RETRIED) .. ","
  if retried >= most or not string.find(statuses, "," .. status .. ",", 1, true) then
    return nil
  end
  local delay = (tonumber(index.field(fields, "retry_delay")) or FIRST_DELAY) * 2 ^ retried
  return math.min(delay, LONGEST_DELAY) * (0.5 + number % 1000 / 2000)
end
