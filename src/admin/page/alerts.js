// What is wrong, the worst first, each with where to look.

function alerts(status, minute) {
  const found = [];
  const add = (level, text, at) => found.push({ level, text, at });
  const { limits } = status;

  for (const upstream of status.upstreams) {
    const sick = upstream.servers.filter((server) => !server.healthy);
    if (!upstream.available) add("bad", `Upstream ${upstream.name} has no healthy server.`, "upstreams");
    else if (sick.length) add("warn", `${sick.length} of ${upstream.servers.length} servers of ${upstream.name} get no requests: ${sick.map((server) => server.url).join(", ")}.`, "upstreams");
    const errors = minute.upstreams[upstream.name]?.errors;
    if (total(errors)) add("bad", `Upstream ${upstream.name} failed ${many(total(errors), "time", "times")} within the last minute: ${named(errors)}.`, "upstreams");
  }
  if (status.permit_leaks) add("bad", `${many(status.permit_leaks, "turn or place was", "turns or places were")} lost: a fault of Turnwise. The log has what is known of it.`, "routes");
  if (status.policy.problems.length) {
    const [first, ...others] = status.policy.problems;
    add("bad", `The policy file is not in force: ${whereOf({ ...first, file: first.file.split("/").at(-1) })}: ${first.message}${others.length ? `, and ${many(others.length, "other problem", "other problems")}` : ""}.`, "policy");
  }
  const refused = Object.entries(minute.refused).sort((a, b) => b[1] - a[1]);
  for (const [fault, level] of [["busy", "bad"], ["upstream", "bad"], ["client", "warn"]]) {
    const of = Object.fromEntries(refused.filter(([reason]) => faultOf(reason) === fault));
    if (total(of)) add(level, `${many(total(of), "request was", "requests were")} refused within the last minute: ${named(of)}.`, "refusals");
  }
  // The gateway's own answers with 5xx are refusals.
  const theirs = Object.entries(minute.routes).map(([name, { ended, refused: own }]) => {
    const ours = Object.entries(own).reduce((sum, [reason, number]) => sum + (statusOf(reason) >= 500 ? number : 0), 0);
    return [routeName(name), Math.max(0, ended.server_error - ours)];
  });
  const broken = Object.fromEntries(theirs.filter(([, number]) => number > 0));
  if (total(broken)) add("bad", `${many(total(broken), "answer", "answers")} of servers had a status of 5xx within the last minute: ${named(broken)}.`, "routes");
  const late = status.routes.filter((route) => route.oldest_wait_seconds > 0.5 * patience(route));
  if (late.length) add("warn", `Long waits: ${late.map((route) => `${route.name} ${seconds(route.oldest_wait_seconds)} of at most ${seconds(patience(route))}`).join(", ")}.`, "sessions");
  if (limits.waiting > 0) {
    const full = [...new Set(status.routes.filter((route) => route.waiting.place > 0).map((route) => fullLimit(route.name)))];
    add("warn", `${many(limits.waiting, "request waits", "requests wait")} for a place: ${full.join("; ") || "others were here first"}.`, "routes");
  }
  if (limits.waiting > 0.8 * limits.queue) add("bad", `The queue for a place is nearly full: ${count(limits.waiting)} of ${count(limits.queue)}.`, "routes");
  if (limits.queue_bytes > 0.8 * limits.queue_bytes_limit) add("bad", `The memory for waiting bodies is nearly full: ${bytes(limits.queue_bytes)} of ${bytes(limits.queue_bytes_limit)}.`, "routes");
  if (status.connections > 0.9 * status.max_connections) add("bad", `${count(status.connections)} of ${count(status.max_connections)} connections are open.`, "routes");
  if (status.policy.restart_needed.length) add("warn", `Changed in the policy, and needs a restart: ${status.policy.restart_needed.join(", ")}.`, "policy");
  if (status.jobs?.failed) add("warn", `${many(status.jobs.failed, "background job has", "background jobs have")} failed.`, "jobs");
  if (status.uptime_seconds < 120) add("info", `The gateway started ${seconds(status.uptime_seconds)} ago.`, "tiles");
  const order = { bad: 0, warn: 1, info: 2 };
  return found.sort((a, b) => order[a.level] - order[b.level]);
}

// As an editor takes it.
const whereOf = ({ file, line, column, path }) => `${file}:${line}:${column}${path ? ` ${path}` : ""}`;

function showAlerts(status, minute) {
  const found = alerts(status, minute);
  const list = document.querySelector("#wrong ul");
  const quiet = { level: "good", text: calm(status), at: "tiles" };
  const all = found.some((alert) => alert.level !== "info") ? found : [quiet, ...found];
  const making = () => {
    const link = make("a");
    return { element: make("li", "", link), link };
  };
  sync(list, all, (alert) => `${alert.at}${alert.text.replace(/[\d\u202f.,]+/g, "#")}`, making, ({ element, link }, alert) => {
    set(element, "class", alert.level);
    set(link, "href", `#${alert.at}`);
    say(link, alert.text);
  });
  return found;
}

function calm(status) {
  const { in_flight: running } = status.limits;
  const waiting = status.limits.waiting + status.sessions.waiting;
  return `Nothing is wrong. ${running ? `${many(running, "request runs", "requests run")}, ${waiting || "none"} ${waiting === 1 ? "waits" : "wait"}.` : "It is quiet."}`;
}
