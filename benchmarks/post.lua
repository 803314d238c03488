-- wrk script: every request POSTs {"x": 1}; at the end one line of JSON. Times are microseconds.

wrk.method = "POST"
wrk.body = '{"x": 1}'
wrk.headers["Content-Type"] = "application/json"

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
