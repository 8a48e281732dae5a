-- Requests whose session key goes round a number of keys, for wrk. The script's arguments: method, octets of the body,
-- number of keys (0: every key is new), prefix of the keys, path, first number.

local method, body_size, keys, prefix, path
local head, tail
local ready = {}
local at = 0

function init(args)
  method = args[1] or "GET"
  body_size = tonumber(args[2] or "0")
  keys = tonumber(args[3] or "1")
  prefix = args[4] or "s"
  path = args[5] or "/"
  at = tonumber(args[6] or "0")
  head = method .. " " .. path .. " HTTP/1.1\r\nHost: bench\r\nX-Session-Id: " .. prefix
  tail = "\r\n\r\n"
  if body_size > 0 then
    local body = '{"text":"' .. string.rep("x", body_size - 11) .. '"}'
    tail = "\r\nContent-Type: application/json\r\nContent-Length: " .. body_size .. "\r\n\r\n" .. body
  end
  -- Few keys: all requests are made beforehand, so that the load generator is as cheap as it can be.
  if keys > 0 and keys <= 4096 then
    for i = 1, keys do
      ready[i] = head .. i .. tail
    end
  end
end

function request()
  at = at + 1
  if keys == 0 then
    return head .. at .. tail
  end
  if keys <= 4096 then
    return ready[at % keys + 1]
  end
  -- A prime step: neighbours in time are not neighbours in number, and one pass still meets each key once.
  return head .. ((at * 7919) % keys) .. tail
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "\nRESULT requests=%d duration_us=%d p50_us=%.2f mean_us=%.2f ",
    summary.requests, summary.duration, latency:percentile(50), latency.mean))
  io.write(string.format(
    "connect=%d read=%d write=%d status=%d timeout=%d\n",
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
