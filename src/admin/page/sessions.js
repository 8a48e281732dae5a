// Sessions: who waits, for what, and ending it.

// Rows asked for.
const ROWS = 25;

const orders = { waiting: "most waiting", longest: "longest wait", age: "oldest" };

const sessions = {
  order: "waiting",
  list: [],
  // The requests of those that were opened, by their key; null: it has none any more.
  open: new Map(),
  columns: {
    name: ["", "name"], route: ["Route"], waiting: ["Waiting", "n"], oldest: ["Longest wait", "n"], running: ["Running", "n"], for: ["For", "n"],
  },
  inner: {
    state: ["", "name"], for: ["So for", "n"], age: ["Age", "n"], route: ["Route"], client: ["Client"], id: ["Request id", "id"],
  },

  begin() {
    for (const [order, words] of Object.entries(orders)) {
      const choice = button(words, "", () => {
        this.order = order;
        this.mark();
        tick();
      });
      choice.dataset.order = order;
      byId("order").append(choice);
    }
    this.mark();
  },

  mark() {
    for (const choice of byId("order").children) set(choice, "aria-pressed", String(choice.dataset.order === this.order));
  },

  async load() {
    this.list = await read(`sessions?sort=${this.order}&limit=${ROWS}`);
    // Who was found to be gone is not asked for until it is on the list again.
    const asked = [...this.open].filter(([key, requests]) => requests !== null || this.list.some((one) => one.key === key));
    await Promise.all(asked.map(async ([key]) => {
      const found = await read(session(key), true);
      if (this.open.has(key)) this.open.set(key, found?.requests ?? null);
    }));
  },

  update(status) {
    const table = document.querySelector("#sessions table");
    const gone = [...table.querySelectorAll("tbody")]
      .filter((body) => this.open.has(body.dataset.key) && !this.list.some((one) => one.key === body.dataset.key && one.lane === body.dataset.lane))
      .map((body) => ({ key: body.dataset.key, lane: body.dataset.lane, route: body.dataset.route, running: 0, waiting: 0, oldest_wait_seconds: 0, running_seconds: 0 }));
    const all = [...this.list, ...gone];
    const { active } = status.sessions;
    say(byId("sessions-note"), active > this.list.length ? `${count(this.list.length)} of ${count(active)} with a request that runs or waits` : "");
    show(table, all.length);
    show(document.querySelector("#sessions .none"), !all.length);
    const keyOf = (one) => `${one.lane}\n${one.key}`;
    sync(table, this.still(table, all, keyOf), keyOf, (one) => this.make(one), (child, one) => this.fill(child, one));
  },

  // Under a pointer nothing moves: who is about to press a button shall press that one.
  still(table, all, keyOf) {
    if (!table.matches(":hover") && !table.contains(document.activeElement)) return all;
    const places = new Map([...table.querySelectorAll("tbody")].map((body, place) => [`${body.dataset.lane}\n${body.dataset.key}`, place]));
    const place = (one) => places.get(keyOf(one)) ?? Infinity;
    return all.map((one, at) => [one, at]).sort(([a, i], [b, j]) => (place(a) === place(b) ? i - j : place(a) - place(b))).map(([one]) => one);
  },

  make({ key, lane, route }) {
    const { element: line, cells } = row(this.columns);
    const opener = button("", "opener", () => this.toggle(key));
    cells.name.append(opener);
    line.addEventListener("click", (event) => event.target.closest("button") || this.toggle(key));
    const detail = make("div", "detail");
    const cell = make("td", "", detail);
    cell.colSpan = 6;
    const under = make("tr", "under", cell);
    const element = make("tbody", "", line, under);
    Object.assign(element.dataset, { key, lane, route });
    const clear = button("", "", () => this.ask(key, false));
    const interrupt = button("", "danger", () => this.ask(key, true));
    const requests = make("tbody");
    const titles = ["", ...Object.values(this.inner).slice(1).map(([title, kind]) => [title, kind])];
    const table = make("table", "", make("thead", "", make("tr", "", ...titles.map((title) => make("th", title[1], title[0] ?? "")))), requests);
    detail.append(table, make("p", "none"), make("div", "flow", clear, interrupt));
    return { element, cells, opener, under, requests, clear, interrupt, empty: detail.querySelector(".none") };
  },

  fill({ cells, opener, under, requests, clear, interrupt, empty }, one) {
    const isOpen = this.open.has(one.key);
    const opened = this.open.get(one.key) ?? [];
    say(opener, one.key);
    set(opener, "title", one.key);
    set(opener, "aria-expanded", String(isOpen));
    say(cells.route, one.lane === one.route ? one.route : `${one.route} in ${one.lane}`);
    say(cells.waiting, count(one.waiting));
    say(cells.oldest, lasting(one.oldest_wait_seconds));
    say(cells.running, count(one.running));
    say(cells.for, lasting(one.running_seconds));
    mark(cells.waiting, "zero", one.waiting === 0);
    mark(cells.running, "zero", one.running === 0);
    mark(cells.oldest, "zero", !one.oldest_wait_seconds);
    mark(cells.for, "zero", !one.running_seconds);
    const route = live.status.routes.find((of) => of.name === one.route);
    mark(cells.oldest, "warn", route && one.oldest_wait_seconds > 0.5 * patience(route));
    show(under, isOpen);
    if (!isOpen) return;
    sync(requests, opened, (request) => request.id, () => row(this.inner), ({ element, cells: of }, request) => {
      say(of.state, wordsOf(request));
      mark(element, "waits", request.waiting_for);
      say(of.for, seconds(request.seconds));
      say(of.age, seconds(request.age_seconds));
      say(of.route, `${request.method} ${request.route}`);
      say(of.client, request.client);
      say(of.id, request.id);
    });
    const waiting = opened.filter((request) => request.state === "waiting").length;
    say(clear, `Clear ${many(waiting, "waiting request", "waiting requests")}`);
    say(interrupt, waiting ? "Interrupt the running one too" : "Interrupt");
    show(clear, waiting > 0);
    show(interrupt, opened.length > 0);
    say(empty, "No request of this session runs or waits any more.");
    show(empty, opened.length === 0);
    show(requests.parentElement, opened.length > 0);
  },

  toggle(key) {
    if (!this.open.delete(key)) this.open.set(key, []);
    tick();
  },

  ask(key, running) {
    const requests = this.open.get(key) ?? [];
    const waiting = requests.filter((request) => request.state === "waiting").length;
    const runs = requests.length - waiting;
    const text = running
      ? `Ends ${count(runs)} running and ${many(waiting, "waiting request", "waiting requests")} with 409 interrupted. Connections to the server are closed.`
      : `Ends ${many(waiting, "waiting request", "waiting requests")} with 409 interrupted. What runs goes on.`;
    ask({
      title: running ? "Interrupt this session?" : "Clear this session?",
      named: key,
      text,
      act: running ? "Interrupt" : "Clear",
      danger: running,
      run: () => change("DELETE", session(key, running), (answer) => `Ended ${many(answer.ended, "request", "requests")}.`),
    });
  },
};

// A path cannot end in dots: a browser would leave them out.
function session(key, running) {
  const path = key === "." || key === ".." ? `session?key=${encodeURIComponent(key)}` : `sessions/${encodeURIComponent(key)}`;
  return running ? `${path}${path.includes("?") ? "&" : "?"}running=true` : path;
}

// What a request does, or what it waits for.
function wordsOf({ state, waiting_for: awaited, position, route, nested_in: outer, joined_to: work }) {
  if (awaited === "turn") return `waits for its turn, as number ${position}`;
  if (awaited === "rate") return "waits for a rate limit";
  if (awaited === "place") return `waits for a place: ${fullLimit(route)}`;
  if (awaited === "server") return "waits for a server with room";
  if (state === "joined") return `shares the answer of ${work.slice(0, 8)}…`;
  if (state === "abandoned") return "runs, but its client has gone";
  if (state === "ending") return "ends: it was interrupted";
  if (state === "arriving") return "its body is being read";
  return outer ? `runs inside ${outer.slice(0, 8)}…` : "runs";
}

// Which limit it is that a request of this route meets.
function fullLimit(name) {
  const { routes: all, upstreams: ups, limits } = live.status;
  const route = all.find((one) => one.name === name);
  const upstream = ups.find((one) => one.name === route?.upstream);
  const full = [];
  if (limits.in_flight >= limits.concurrency) full.push(`all ${count(limits.concurrency)} of the gateway are taken`);
  if (upstream?.concurrency && upstream.in_flight >= upstream.concurrency) full.push(`all ${count(upstream.concurrency)} of upstream ${upstream.name} are taken`);
  if (route?.concurrency && route.in_flight >= route.concurrency) full.push(`all ${count(route.concurrency)} of route ${name} are taken`);
  return full[0] ?? "others were here first";
}

// Asks whether somebody means it.
function ask({ title, named: key, text, act, danger, run }) {
  const dialog = byId("dialog");
  say(byId("dialog-title"), title);
  const words = dialog.querySelector("p");
  words.replaceChildren(...(key ? [make("b", "key", key), make("br")] : []), text);
  const leave = button("Leave it", "", () => dialog.close());
  const go = button(act, danger ? "danger" : "strong", () => {
    dialog.close();
    run();
  });
  dialog.querySelector(".flow").replaceChildren(leave, go);
  dialog.showModal();
  leave.focus();
}
