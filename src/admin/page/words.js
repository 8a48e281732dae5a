// Numbers with their units, and what the gateway's words mean.

const none = "–";

function count(value) {
  if (value == null) return none;
  return value < 100000 ? String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f") : `${(value / 1000).toFixed(0)} k`;
}

// So many a second.
function rate(value) {
  if (value == null) return none;
  return `${value === 0 ? "0" : value < 0.05 ? "< 0.1" : value < 9.95 ? value.toFixed(1) : count(value)}/s`;
}

function seconds(value) {
  if (value == null) return none;
  if (value < 0.001) return "< 1 ms";
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 119.5) return `${Math.round(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// Of something that may not be going on at all.
const lasting = (value) => (value > 0 ? seconds(value) : none);

function bytes(value) {
  const unit = ["B", "KiB", "MiB", "GiB"];
  let place = 0;
  while (value >= 1024 && place < 3) [value, place] = [value / 1024, place + 1];
  return `${place && value < 10 ? value.toFixed(1) : Math.round(value)} ${unit[place]}`;
}

const clock = (at) => new Date(at).toLocaleTimeString([], { hourCycle: "h23" });

// A moment as people say it: with the date, unless it is today's.
function moment(at) {
  const then = new Date(at);
  return then.toDateString() === new Date().toDateString() ? clock(at) : `${then.toLocaleDateString()} ${clock(at)}`;
}

const routeName = (route) => (route === "-" ? "no route" : route);

const many = (number, one, more) => `${count(number)} ${number === 1 ? one : more}`;

const total = (counts) => Object.values(counts ?? {}).reduce((sum, value) => sum + value, 0);

// Status, whose fault it is (which decides how loud it is), and what has happened.
const reasons = {
  no_route: [404, "client", "no route matches"],
  bad_request: [400, "client", "the head or the body is ambiguous or broken"],
  head_timeout: [408, "client", "the head did not come in time"],
  request_timeout: [408, "client", "the body did not come in time"],
  head_too_large: [431, "client", "the head is larger than server.max_header_bytes"],
  session_required: [400, "client", "the request names no session"],
  body_too_large: [413, "client", "the body is larger than body_limit"],
  rate_limited: [429, "client", "over a rate limit"],
  session_queue_full: [429, "busy", "too many wait for one session (session.queue)"],
  session_queue_timeout: [429, "busy", "its turn did not come within session.queue_timeout"],
  session_busy: [409, "client", "the session is busy, and the route does not wait"],
  interrupted: [409, "client", "ended by a newer request of its session, or by an operator"],
  turn_deadlock: [409, "client", "nested turns that would wait for one another"],
  idempotency_mismatch: [422, "client", "the Idempotency-Key of another body"],
  queue_full: [503, "busy", "too many wait for a place (limits.queue, queue_bytes, queue_share)"],
  job_queue_full: [503, "busy", "too many background jobs (background.queue)"],
  key_table_full: [503, "busy", "limits.keys sessions and rate-limit keys are in use"],
  queue_timeout: [503, "busy", "no place came free within limits.queue_timeout"],
  upstream_unavailable: [503, "upstream", "no healthy server"],
  upstream_connect: [502, "upstream", "the server refuses, resets or cannot be reached"],
  upstream_broken: [502, "upstream", "the connection was lost before a response head, or nonsense came"],
  upstream_timeout: [504, "upstream", "no connection or no response head in time"],
  draining: [503, "busy", "the gateway is shutting down"],
  internal: [500, "upstream", "a bug of Turnwise; the log has the request id"],
};

const statusOf = (reason) => reasons[reason]?.[0];
const faultOf = (reason) => reasons[reason]?.[1] ?? "busy";
const meaningOf = (reason) => reasons[reason]?.[2] ?? "";
