// Routes, upstreams, refusals, background jobs.

const routes = {
  idleShown: false,
  columns: {
    name: ["", "name"], running: ["Running"], turn: ["Turn", "n"], rate: ["Rate", "n"], place: ["Place", "n"],
    oldest: ["Longest wait", "n"], p50: ["Wait p50", "n"], p95: ["Wait p95", "n"], ended: ["Ended", "n"], refused: ["Refused", "n"],
    past: ["", "plotted"],
  },

  update(status, minute) {
    const busy = new Set(live.samples.flatMap((sample) => Object.keys(sample.routes)));
    const isBusy = (route) => busy.has(route.name) || route.in_flight + total(route.waiting) > 0;
    const idle = status.routes.filter((route) => !isBusy(route));
    const allIdle = idle.length === status.routes.length;
    const shown = this.idleShown || allIdle ? status.routes : status.routes.filter(isBusy);
    const toggle = byId("idle");
    show(toggle, idle.length > 0 && !allIdle);
    say(toggle, `${this.idleShown ? "Hide" : "Show"} ${many(idle.length, "idle route", "idle routes")}`);
    const body = document.querySelector("#routes tbody");
    sync(body, shown, (route) => route.name, () => this.make(), (child, route) => this.fill(child, route, minute));
  },

  make() {
    const { element, cells } = row(this.columns);
    const [name, tag, running] = [make("b"), make("small"), gauge()];
    cells.name.append(name, " ", tag);
    cells.running.append(running.element);
    const past = plot({
      stacked: true,
      unit: count,
      lines: [
        { kind: "run", name: "running", of: (sample) => sample.routes[this.of(element)]?.in_flight ?? 0 },
        { kind: "turn", name: "waiting", of: (sample) => total(sample.routes[this.of(element)]?.waiting) },
      ],
    });
    cells.past.append(past.element);
    return { element, cells, name, tag, running, past };
  },

  of: (element) => element.dataset.route,

  fill({ element, cells, name, tag, running, past }, route, minute) {
    element.dataset.route = route.name;
    const span = minute.routes[route.name];
    const worst = worstWait(span?.wait);
    say(name, route.name);
    say(tag, route.exempt ? "exempt" : route.upstream);
    running.update(route.in_flight, route.concurrency);
    for (const queue of ["turn", "rate", "place"]) {
      say(cells[queue], count(route.waiting[queue]));
      mark(cells[queue], "zero", route.waiting[queue] === 0);
    }
    say(cells.oldest, lasting(route.oldest_wait_seconds));
    mark(cells.oldest, "zero", !route.oldest_wait_seconds);
    mark(cells.oldest, "warn", route.oldest_wait_seconds > 0.5 * patience(route));
    say(cells.p50, seconds(worst?.p50_seconds));
    say(cells.p95, seconds(worst?.p95_seconds));
    say(cells.ended, rate(span ? total(span.ended) / (minute.seconds || 1) : 0));
    const refused = total(span?.refused);
    say(cells.refused, count(refused));
    mark(cells.refused, "zero", refused === 0);
    mark(cells.refused, "bad", refused > 0);
    past.update(live.samples);
  },
};

// The queue in which most time is lost, with its name.
function worstWait(wait) {
  const queues = Object.entries(wait ?? {}).map(([queue, spread]) => ({ queue, ...spread }));
  return queues.filter((spread) => spread.count > 0).sort((a, b) => b.p95_seconds - a.p95_seconds)[0];
}

// How long a request of a route waits at most before it is refused.
function patience(route) {
  const { limits } = live.status;
  return route.waiting.turn > 0 && route.session ? route.session.queue_timeout_seconds : limits.queue_timeout_seconds;
}

const upstreams = {
  columns: {
    name: ["", "name"], state: ["State"], running: ["Running"], p50: ["p50", "n"], p95: ["p95", "n"], errors: ["Errors", "n"],
    connections: ["Connections", "n"], ejected: ["Ejected", "n"],
  },

  // An upstream is a body of the table: a line of its own, then its servers.
  update(status, minute) {
    const table = document.querySelector("#upstreams table");
    const making = () => {
      const head = this.make();
      head.element.className = "group";
      const element = make("tbody", "", head.element);
      return { element, head };
    };
    sync(table, status.upstreams, (upstream) => upstream.name, making, ({ element, head }, upstream) => {
      this.fillHead(head, upstream, minute.upstreams[upstream.name]);
      const servers = [{ head }, ...upstream.servers];
      const key = (server) => server.url ?? "";
      sync(element, servers, key, (server) => server.head ?? this.make(), (child, server) => server.head || this.fill(child, server));
    });
  },

  make() {
    const { element, cells } = row(this.columns);
    const [name, tag, state, running] = [make("b"), make("small"), make("span", "pill"), gauge()];
    cells.name.append(name, " ", tag);
    cells.state.append(state);
    cells.running.append(running.element);
    return { element, cells, name, tag, state, running };
  },

  fillHead({ cells, name, tag, state, running }, upstream, span) {
    const healthy = upstream.servers.filter((server) => server.healthy).length;
    say(name, upstream.name);
    say(tag, many(upstream.servers.length, "server", "servers"));
    const all = healthy === upstream.servers.length;
    say(state, all ? "healthy" : upstream.available ? `${healthy} of ${upstream.servers.length} healthy` : "unavailable");
    mark(state, "good", all && upstream.available);
    mark(state, "warn", !all && upstream.available);
    mark(state, "bad", !upstream.available);
    running.update(upstream.in_flight, upstream.concurrency);
    say(cells.p50, seconds(span?.head.p50_seconds));
    say(cells.p95, seconds(span?.head.p95_seconds));
    const errors = total(span?.errors);
    say(cells.errors, errors ? named(span.errors) : "0");
    set(cells.errors, "title", `since the start: ${named(upstream.errors) || "none"}; retries: ${upstream.retries}`);
    mark(cells.errors, "bad", errors > 0);
    mark(cells.errors, "zero", errors === 0);
  },

  fill({ element, cells, name, tag, state, running }, server) {
    element.className = "member";
    say(name, server.url);
    say(tag, server.weight === 1 ? "" : `weight ${server.weight}`);
    say(state, !server.passes_checks ? "fails its checks" : server.ejected ? "ejected" : "healthy");
    mark(state, "good", server.healthy);
    mark(state, "bad", !server.healthy);
    running.update(server.in_flight, server.concurrency);
    say(cells.connections, `${count(server.connections.active)} + ${count(server.connections.idle)} idle`);
    say(cells.ejected, server.ejections ? many(server.ejections, "time", "times") : "never");
    mark(cells.ejected, "zero", !server.ejections);
  },
};

// As in `connect 3, broken 1`.
const named = (counts) => Object.entries(counts ?? {}).map(([name, number]) => `${name} ${count(number)}`).join(", ");

const refusals = {
  columns: {
    reason: ["", "name"], status: ["Status", "n"], minute: ["Minute", "n"], ten: ["10 minutes", "n"], all: ["Since start", "n"], routes: ["Routes", "long"],
    means: ["", "long"],
  },

  update(status, minute) {
    const byReason = new Map();
    for (const { route, reason, total: number } of status.refused) {
      const of = byReason.get(reason) ?? { reason, all: 0, routes: {} };
      of.all += number;
      of.routes[route] = number;
      byReason.set(reason, of);
    }
    const list = [...byReason.values()].map((of) => ({
      ...of,
      minute: minute.refused[of.reason] ?? 0,
      ten: live.samples.reduce((sum, sample) => sum + (sample.refused[of.reason] ?? 0), 0),
    }));
    list.sort((a, b) => b.minute - a.minute || b.ten - a.ten || b.all - a.all);
    show(document.querySelector("#refusals table"), list.length);
    show(document.querySelector("#refusals .none"), !list.length);
    sync(document.querySelector("#refusals tbody"), list, (of) => of.reason, () => row(this.columns), ({ cells }, of) => {
      say(cells.reason, of.reason);
      say(cells.status, statusOf(of.reason) ?? none);
      for (const span of ["minute", "ten", "all"]) {
        say(cells[span], count(of[span]));
        mark(cells[span], "zero", of[span] === 0);
      }
      mark(cells.minute, faultOf(of.reason) === "client" ? "warn" : "bad", of.minute > 0);
      const busiest = Object.entries(of.routes).sort((a, b) => b[1] - a[1]);
      const more = busiest.length > 4 ? ` and ${busiest.length - 4} more` : "";
      say(cells.routes, busiest.slice(0, 4).map(([name, number]) => `${routeName(name)} ${count(number)}`).join(", ") + more);
      say(cells.means, meaningOf(of.reason));
    });
  },
};

const jobs = {
  columns: {
    id: ["", "name"], route: ["Route"], state: ["State"], attempts: ["Attempts", "n"], age: ["Age", "n"], error: ["Error", "long"], acts: ["", "acts"],
  },
  list: [],

  update(status) {
    const known = status.jobs != null;
    show(byId("jobs"), known);
    if (!known) return;
    const { oldest_age_seconds: oldest, ...counts } = status.jobs;
    const parts = Object.entries(counts).map(([name, number]) => `${name} ${count(number)}`);
    say(byId("jobs-note"), [...parts, oldest > 0 ? `the oldest for ${seconds(oldest)}` : ""].filter(Boolean).join(" · "));
    show(document.querySelector("#jobs table"), this.list.length);
    sync(document.querySelector("#jobs tbody"), this.list, (job) => job.id, (job) => this.make(job), (child, job) => this.fill(child, job));
  },

  make({ id }) {
    const { element, cells } = row(this.columns);
    const path = `jobs/${encodeURIComponent(id)}`;
    const retry = button("Retry", "", () => ask({
      title: "Retry this job?", text: `${id} is queued again, with new attempts.`, act: "Retry",
      run: () => change("POST", `${path}/retry`, () => "The job is queued again."),
    }));
    const cancel = button("Cancel", "danger", () => ask({
      title: "Cancel this job?", text: `${id} ends. If it runs, its connection to the server is closed.`, act: "Cancel the job", danger: true,
      run: () => change("DELETE", path, () => "The job is cancelled."),
    }));
    cells.acts.append(retry, cancel);
    return { element, cells, retry, cancel };
  },

  fill({ cells, retry, cancel }, job) {
    say(cells.id, job.id);
    say(cells.route, job.route);
    say(cells.state, job.status);
    mark(cells.state, "bad", job.status === "failed");
    mark(cells.state, "warn", job.status === "retrying");
    say(cells.attempts, count(job.attempts));
    say(cells.age, seconds(Math.max(0, (live.serverNow() - Date.parse(job.created_at)) / 1000)));
    say(cells.error, job.error ?? "");
    const ended = ["succeeded", "failed", "cancelled"].includes(job.status);
    show(retry, job.status === "failed" || job.status === "cancelled");
    show(cancel, !ended);
  },
};
