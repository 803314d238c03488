-- wrk script: every request POSTs the file BODY_FILE; at the end one line of JSON. Times are microseconds.

local file = assert(io.open(os.getenv("BODY_FILE"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")
file:close()

function done(summary, latency, _)
  local errors = summary.errors
  local parts = {
    '"requests": ' .. summary.requests,
    '"duration": ' .. summary.duration,
    '"p50": ' .. latency:percentile(50),
    '"p99": ' .. latency:percentile(99),
    '"status_errors": ' .. errors.status,
    '"socket_errors": ' .. errors.connect + errors.read + errors.write + errors.timeout,
  }
  print("{" .. table.concat(parts, ", ") .. "}")
end
