// Reading the gateway again and again, and showing what it says.

const STEP = 1000;
// Without an answer for so long, an endpoint counts as lost.
const PATIENCE = 5000;
const TOKEN = "turnwise-token";

const live = {
  status: null,
  samples: [],
  kept: 120,
  minute: null,
  began: null,
  historyDue: 0,
  // When the gateway last answered, by this machine's clock, and how far the other clock is ahead.
  heard: null,
  ahead: 0,
  failing: null,
  wantsToken: false,
  refusal: null,
  serverNow: () => Date.now() + live.ahead,
};

// The token, for as long as this tab is open; where a browser keeps nothing, until it is loaded again.
const token = {
  held: null,
  get() {
    try {
      return sessionStorage.getItem(TOKEN);
    } catch {
      return this.held;
    }
  },
  set(value) {
    this.held = value;
    try {
      if (value === null) sessionStorage.removeItem(TOKEN);
      else sessionStorage.setItem(TOKEN, value);
    } catch {
      // Then only here.
    }
  },
};

class Refused extends Error {
  constructor(answer, problem) {
    super(problem?.detail ?? `${answer.status} ${answer.statusText}`);
    this.status = answer.status;
    this.problem = problem;
  }
}

async function call(method, path) {
  const given = token.get();
  const headers = given === null ? {} : { Authorization: `Bearer ${given}` };
  const answer = await fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  const text = await answer.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // An answer of something between us and the gateway.
  }
  if (!answer.ok) throw new Refused(answer, value);
  if (value == null) throw new Error("what answers is not the gateway");
  return { value, date: answer.headers.get("date") };
}

// `absent`: that it may not be there.
async function read(path, absent) {
  try {
    return (await call("GET", path)).value;
  } catch (error) {
    if (absent && error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

// Changes something, and says what came of it.
async function change(method, path, words) {
  try {
    tell(words((await call(method, path)).value));
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askForToken();
    tell(error instanceof Refused && error.status === 422 ? "The policy was not reloaded: see what is wrong with it." : `That was refused: ${error.message}`, true);
  }
  tick();
}

let telling;

function tell(text, bad) {
  const said = byId("said");
  say(said, text);
  set(said, "class", bad ? "bad shown" : "shown");
  clearTimeout(telling);
  telling = setTimeout(() => set(said, "class", ""), 6000);
}

async function readHistory() {
  const last = live.samples.at(-1)?.number ?? 0;
  const history = await read(`history?after=${last}`);
  if (live.began !== null && live.began !== history.began) {
    // Another process: its numbers begin anew.
    [live.samples, live.began] = [[], null];
    return readHistory();
  }
  live.began = history.began;
  live.kept = history.kept;
  live.samples = [...live.samples, ...history.samples].slice(-history.kept);
  live.minute = history.last_minute;
  live.historyDue = Date.now() + history.interval_seconds * 1000;
}

async function step() {
  try {
    const { value: status, date } = await call("GET", "status");
    await Promise.all([
      sessions.load(),
      Date.now() >= live.historyDue || live.minute == null || live.status?.uptime_seconds > status.uptime_seconds ? readHistory() : null,
      status.jobs ? read("jobs").then((list) => (jobs.list = list)) : null,
    ]);
    live.status = status;
    live.heard = Date.now();
    if (date) live.ahead = Date.parse(date) - Date.now();
    [live.failing, live.refusal, live.wantsToken] = [null, null, false];
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return askForToken();
    live.refusal = error instanceof Refused ? error.message : null;
    live.failing ??= Date.now();
  }
  render();
}

let busy = null;
let again = false;
let timer;

// Now, and then every second. Never two at once.
function tick() {
  if (busy) return void (again = true);
  clearTimeout(timer);
  const began = Date.now();
  busy = step().finally(() => {
    busy = null;
    // A gateway that takes long to answer has better things to do.
    const pause = Math.max(document.hidden ? 5 * STEP : STEP, 4 * (Date.now() - began));
    if (!live.wantsToken || again) timer = setTimeout(tick, again ? 0 : pause);
    again = false;
  });
}

function askForToken() {
  const had = token.get() !== null;
  token.set(null);
  if (had) say(byId("token-note"), "That is not its token.");
  mark(byId("token-note"), "bad", had);
  const first = !live.wantsToken;
  live.wantsToken = true;
  render();
  if (first || had) byId("token").focus();
}

function banners() {
  const found = [];
  const { status } = live;
  const silent = live.failing && !live.refusal && Date.now() - live.failing > 1500;
  if (live.refusal) found.push({ level: "bad", key: "refused", text: live.refusal });
  else if (silent && status?.draining) found.push({ level: "bad", key: "ended", text: `The gateway has drained and no longer answers. What is below is of ${clock(live.heard)}.` });
  else if (silent) found.push({ level: "bad", key: "lost", text: status ? `Lost the gateway: no answer for ${seconds(Math.round((Date.now() - live.heard) / 1000))}. What is below is of ${clock(live.heard)}.` : "The gateway does not answer." });
  if (status?.draining && !silent) {
    const { requests_left: left, seconds_left: time } = status.drain;
    found.push({ level: "warn", key: "drain", text: `Draining: ${many(left, "request is", "requests are")} left. ${left ? `What has not ended in ${seconds(Math.round(time))} is cut.` : ""}` });
  }
  const making = () => {
    const element = make("p");
    return { element };
  };
  sync(byId("banners"), found, (banner) => banner.key, making, ({ element }, { level, text }) => {
    set(element, "class", level);
    say(element, text);
  });
  mark(document.body, "stale", found.some((banner) => ["lost", "ended", "refused"].includes(banner.key)));
  return found;
}

function header(status, found) {
  const lost = document.body.classList.contains("stale");
  const worst = found[0]?.level;
  const state = lost ? "lost" : status.draining ? "draining" : worst === "bad" ? "trouble" : worst === "warn" ? "warning" : "healthy";
  say(byId("state"), state);
  set(byId("state"), "class", `state ${state}`);
  const { policy } = status;
  const facts = [`version ${status.version}`, `up ${seconds(Math.floor(status.uptime_seconds))}`, many(status.connections, "connection", "connections"), `policy ${policy.generation}`];
  say(byId("facts"), facts.join(" · "));
  const waiting = status.limits.waiting + status.sessions.waiting;
  const title = { lost: "LOST", draining: "draining", trouble: "trouble", warning: "warning", healthy: "" }[state];
  document.title = [title, waiting ? `${waiting} waiting` : "", location.host].filter(Boolean).join(" · ");
  const colour = { lost: "%23777", draining: "%23c77700", trouble: "%23d32f2f", warning: "%23c77700", healthy: "%23258750" }[state];
  set(byId("icon"), "href", `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${colour}'/></svg>`);
}

function showPolicy({ policy }) {
  const failed = policy.failed_at ? ` · reload failed ${moment(policy.failed_at)}` : "";
  say(byId("policy-note"), `${policy.file} · generation ${policy.generation} in force since ${moment(policy.loaded_at)}${failed}`);
  const making = () => {
    const [where, what] = [make("code"), make("span")];
    return { element: make("li", "", where, " ", what), where, what };
  };
  sync(byId("problems"), policy.problems, (problem) => JSON.stringify(problem), making, ({ where, what }, problem) => {
    say(where, whereOf(problem));
    say(what, `${problem.message}${problem.hint ? `; ${problem.hint}` : ""}`);
  });
}

function render() {
  const { status, minute } = live;
  show(byId("ask-token"), live.wantsToken);
  show(byId("forget"), token.get() !== null);
  banners();
  show(byId("main"), status && !live.wantsToken);
  if (!status) return say(byId("state"), live.wantsToken ? "locked" : live.failing ? "lost" : "connecting");
  header(status, showAlerts(status, minute));
  tiles.update(status, minute, live.samples);
  sessions.update(status);
  routes.update(status, minute);
  upstreams.update(status, minute);
  refusals.update(status, minute);
  jobs.update(status);
  showPolicy(status);
}

function begin() {
  say(byId("place"), location.host);
  sessions.begin();
  byId("idle").addEventListener("click", () => {
    routes.idleShown = !routes.idleShown;
    render();
  });
  byId("reload").addEventListener("click", () => change("POST", "-/reload", (answer) => `Reloaded: generation ${answer.generation} is in force.`));
  byId("ask-token").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(byId("token").value);
    byId("token").value = "";
    tick();
  });
  byId("forget").addEventListener("click", () => {
    token.set(null);
    say(byId("token-note"), "It is kept in this tab only, until you close it.");
    tick();
  });
  document.querySelector("details").addEventListener("toggle", async (event) => {
    if (!event.target.open) return;
    try {
      say(byId("config"), JSON.stringify(await read("config"), null, 2));
    } catch (error) {
      say(byId("config"), error.message);
    }
  });
  document.addEventListener("visibilitychange", () => document.hidden || tick());
  tick();
}

begin();
