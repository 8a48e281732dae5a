"""Asks a real Prometheus every question of the Grafana dashboard, while it scrapes a real gateway under load.

The gateway is given a reason for each metric: work, waits in all queues, refusals of several kinds, clients that leave, an
interrupted turn, a server that is ejected, a reload that fails and one that does not, and background jobs where the gateway
has them. Every query of `deploy/grafana/turnwise.json` then has to give numbers, with the labels that its legend names; every
rule of `deploy/prometheus` has to be evaluated without an error. The JSON itself is checked as well: ids, places, references.

Queries on a metric that the gateway does not have are only parsed, and listed; with `--all` they are failures. Grafana is not
needed, `prometheus` and `promtool` are.

    python tests/real/dashboard.py --gateway target/release/turnwise
"""

import argparse
import http.client
import itertools
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from asking import ask
from claims import comes_true, require
from processes import free_address
from scraped import Scraped
from serving import Handler, Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "deploy/prometheus").glob("*.yml"))
ALERT = "TurnwiseServerEjected"  # fires within seconds, unlike those that wait for minutes
LOAD_SECONDS = 10
# Metrics that a gateway may not have yet: the whole family is missing then.
LATER = re.compile(r"\bturnwise_(jobs|jobs_oldest_age_seconds|job_attempts_total|job_duration_seconds\w*|permit_leaks_total)\b")
# On the gateway's page, and on no panel: nothing to look at.
NOT_SHOWN = {"process_virtual_memory_bytes"}

POLICY = """\
listen: {public}
admin: {{ listen: "{admin}" }}
limits: {{ concurrency: {concurrency}, queue: 4, queue_timeout: 500ms }}
upstreams:
  agents:
    servers: ["http://{nobody}", "http://{agent}"]
    balance: round_robin
    eject: {{ after_failures: 1, for: 1s }}
routes:
  - name: runs
    match: {{ path_prefix: /run }}
    session: {{ key: [{{ header: X-Session-Id }}], queue: 3, queue_timeout: 1s, duplicates: join, replay_for: 1m }}
    timeouts: {{ total: 5s }}
  - name: paced
    match: {{ path_prefix: /paced }}
    rate_limits: [{{ per: route, rate: 5/s, burst: 1, when_exceeded: wait, queue: 2, queue_timeout: 1s }}]
  - name: limited
    match: {{ path_prefix: /limited }}
    concurrency: 2
    rate_limits: [{{ per: {{ header: X-Api-Key }}, rate: 1/s, burst: 1 }}]
"""
BACKGROUND = """\
  - name: later
    match: { path_prefix: /later }
    background: prefer
background: { store: jobs, retry_delay: 1s, attempts: 2 }
"""


# The file


def structure(dashboard: dict) -> list[str]:
    """What Grafana, or whoever reads the dashboard, would stumble over."""
    wrong = []
    if dashboard.get("id") is not None:
        wrong.append("a dashboard to be provisioned has no id of its own (id: null)")
    wrong += [f"{key} is missing" for key in ("uid", "title", "schemaVersion", "templating", "time") if not dashboard.get(key)]
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    if len(set(variables)) != len(variables):
        wrong.append("two variables have one name")
    sources = {"${%s}" % v["name"] for v in dashboard["templating"]["list"] if v["type"] == "datasource"}
    if not sources:
        wrong.append("the datasource is no variable")
    if "__inputs" in dashboard:
        wrong.append("__inputs are for the import by hand, not for provisioning")

    def refers(what: str, datasource) -> None:
        if not isinstance(datasource, dict) or datasource.get("type") != "prometheus" or datasource.get("uid") not in sources:
            wrong.append(f"{what}: its datasource is {datasource}, not the variable")

    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            refers(f"variable {variable['name']}", variable.get("datasource"))
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    wrong += [f"id {number} is given twice" for number in sorted({n for n in ids if ids.count(n) > 1})]
    for panel in panels:
        name = f"panel {panel['id']} ({panel.get('title')})"
        place = panel["gridPos"]
        if place["x"] < 0 or place["y"] < 0 or place["w"] < 1 or place["h"] < 1 or place["x"] + place["w"] > 24:
            wrong.append(f"{name}: out of the grid: {place}")
        if not panel.get("title"):
            wrong.append(f"{name}: no title")
        if panel["type"] == "row":
            if panel.get("panels") or panel.get("targets"):
                wrong.append(f"{name}: an open row has panels beside it, not in it")
            continue
        if not panel.get("description"):
            wrong.append(f"{name}: no description")
        refers(name, panel.get("datasource"))
        refs = [target["refId"] for target in panel["targets"]]
        if not refs or len(set(refs)) != len(refs):
            wrong.append(f"{name}: refIds {refs}")
        for target in panel["targets"]:
            refers(f"{name} {target['refId']}", target.get("datasource"))
    for one, other in itertools.combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]:
            wrong.append(f"panels {one['id']} and {other['id']} overlap")
    for name, query, *_ in queries(dashboard):
        unknown = set(re.findall(r"\$\{?(\w+)", query)) - set(variables) - {"__rate_interval", "__range"}
        wrong += [f"{name}: ${variable} is no variable" for variable in sorted(unknown)]
    return wrong


def queries(dashboard: dict):
    """(name, query, legend, whether it is instant) of every panel's targets and of annotations."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            name = f"panel {panel['id']} ({panel['title']}) {target['refId']}"
            yield name, target["expr"], target.get("legendFormat", ""), target.get("instant", False)
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            # Not each of its labels is on each alert.
            yield f"annotation {annotation['name']}", annotation["expr"], "", False


# The scene


class Agent(Handler):
    """Takes 100 ms over an answer, a second over `/run/slow`, and has a bad day over `/run/broken`."""

    def do_GET(self) -> None:
        time.sleep(1 if "slow" in self.path else 0.1)
        self.answer(b"no", 500) if "broken" in self.path else self.answer(b"ok")

    def do_POST(self) -> None:
        self.body()
        self.do_GET()


def load(public: str, until_then: float, number: int, background: bool) -> None:
    """One client. Twelve of them are more than the gateway has places and room in its lines for."""
    for turn in itertools.count():
        if time.monotonic() > until_then:
            return
        kind = (number + turn) % 6
        try:
            if kind <= 1:
                ask(f"http://{public}/run/{number}-{turn}", X_Session_Id=f"s{number % 2}")
            elif kind == 2:
                ask(
                    f"http://{public}/run/equal",
                    "POST",
                    b"equal",
                    X_Session_Id="joined", Idempotency_Key=f"k{turn // 4}",
                )
            elif kind == 3:
                ask(f"http://{public}/paced")
            elif kind == 4:
                ask(f"http://{public}/limited", X_Api_Key="k")
            elif number == 5:
                ask(f"http://{public}/no-such-route")
            elif number == 11:
                ask(f"http://{public}/run/broken")
            elif background and number == 10:
                ask(f"http://{public}/later", "POST", b"{}", Prefer="respond-async")
            else:
                host, port = public.split(":")
                with socket.create_connection((host, int(port))) as leaves:
                    leaves.sendall(b"GET /run/slow HTTP/1.1\r\nHost: a\r\nX-Session-Id: leaves\r\n\r\n")
                    time.sleep(0.2)  # wherever it has got to by then
        except (OSError, http.client.HTTPException):
            # A turn that an operator ends amid its answer is cut: that is what one sees of it.
            pass


def make_a_day_of_it(public: str, admin: str, policy: pathlib.Path, background: bool, prometheus: Scraped) -> None:
    """Load for a while, and amid it what an operator does."""
    end = time.monotonic() + LOAD_SECONDS
    clients = [threading.Thread(target=load, args=(public, end, number, background)) for number in range(12)]
    for client in clients:
        client.start()
    prometheus.until("somebody waits", "turnwise_waiting_requests > 0")
    good = policy.read_text()
    policy.write_text(good.replace("concurrency", "concurency", 1))
    said = ask(f"http://{admin}/-/reload", "POST")
    require(said.status == 422, "a policy that is wrong was not refused", said)
    prometheus.until("the reload has failed", "turnwise_config_last_reload_successful == 0")
    policy.write_text(good.replace("concurrency: 3", "concurrency: 4", 1))
    said = ask(f"http://{admin}/-/reload", "POST")
    require(said.status == 200, "the policy was not taken again", said)
    ended = False
    while time.monotonic() < end:
        for session in ("s0", "s1", "joined", "leaves"):
            ended |= ask(f"http://{admin}/sessions/{session}?running=true", "DELETE").status < 300
        time.sleep(1)
    for client in clients:
        client.join(timeout=30)
    require(ended, "no session could be ended by DELETE /sessions/{key}?running=true")


# The questions


def escaped(value: str) -> str:
    """A value of a variable that stands for several, as Grafana writes it into a query."""
    return re.sub(r"[\\^$*+?.()|\[\]{}]", lambda found: "\\\\" + found[0], value)


def values(prometheus: Scraped, dashboard: dict) -> dict[str, str]:
    """What Grafana would put in place of each variable, with `All` chosen."""
    known: dict[str, str] = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        if not asked:
            sys.exit(f"variable {variable['name']}: only label_values(metric, label) is known here")
        found = prometheus.get(f"label/{asked[2]}/values", **{"match[]": fill(asked[1], known)})
        if not found:
            sys.exit(f"variable {variable['name']} has no values: {asked[1]}")
        known[variable["name"]] = "(" + "|".join(escaped(value) for value in found) + ")"
        if variable["name"] == "route":
            print("routes in the dashboard:", ", ".join(found))
    return known


def fill(query: str, known: dict[str, str]) -> str:
    filled = query.replace("$__rate_interval", "10s").replace("$__range", "60s")
    return re.sub(r"\$\{?(\w+)\}?", lambda name: known[name[1]], filled)


def question(prometheus: Scraped, name: str, query: str, legend: str, instant: bool, since: float) -> str | None:
    """What is wrong with the answer to one query, if anything."""
    try:
        if instant:
            result = prometheus.get("query", query=query)["result"]
        else:
            result = prometheus.get("query_range", query=query, start=since, end=time.time(), step=1)["result"]
    except ValueError as error:
        return f"{name}: {error}\n    {query}"
    if not result:
        return f"{name}: no data\n    {query}"
    points = [float(value) for series in result for _, value in series.get("values", [series.get("value")])]
    if all(math.isnan(point) for point in points):
        return f"{name}: no numbers\n    {query}"
    labels = {label for series in result for label in series["metric"]}
    missing = set(re.findall(r"{{\s*(\w+)\s*}}", legend)) - labels
    if missing:
        return f"{name}: its legend names {', '.join(sorted(missing))}, which no series has\n    {query}"
    return None


def check_rules(prometheus: Scraped) -> list[str]:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    wrong = [f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok"]
    return wrong if rules else ["Prometheus has no rules"]


def parse_only(folder: pathlib.Path, questions: list[tuple[str, str]]) -> list[str]:
    """promtool's opinion of queries that cannot be asked."""
    rules = folder / "parsed.yml"
    wrong = []
    for name, query in questions:
        rules.write_text(json.dumps({"groups": [{"name": "parsed", "rules": [{"record": "parsed", "expr": query}]}]}))
        verdict = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True)
        if verdict.returncode:
            wrong.append(f"{name}: {verdict.stdout + verdict.stderr}")
    return wrong


def exported(admin: str) -> set[str]:
    """Names of the metrics on the gateway's page, those of histograms without what is appended to them."""
    return set(re.findall(r"^# TYPE (\w+)", ask(f"http://{admin}/metrics").text, re.MULTILINE))


def check(options, folder: pathlib.Path, dashboard: dict, admin: str, prometheus: Scraped, since: float) -> list[str]:
    known = values(prometheus, dashboard)
    names = exported(admin)
    asked, later = [], []
    for name, query, legend, instant in queries(dashboard):
        families = {re.sub(r"_(bucket|sum|count)$", "", found[0]) for found in LATER.finditer(query)}
        (later if families - names else asked).append((name, fill(query, known), legend, instant))
    wrong = []
    if options.all and later:
        wrong += [f"{name}: the gateway has no such metric: {query}" for name, query, *_ in later]
    wrong += parse_only(folder, [(name, query) for name, query, *_ in later])
    failing = dict.fromkeys(asked, "")

    def answered() -> bool:
        for one in list(failing):
            if wrongly := question(prometheus, *one, since):
                failing[one] = wrongly
            else:
                del failing[one]
        return not failing

    # What was counted last is scraped, and evaluated, a second or two later.
    comes_true(answered, 10, 0.5)
    wrong += failing.values()
    text = " ".join(query for _, query, *_ in queries(dashboard))
    rules = " ".join(path.read_text() for path in RULES)
    for name in sorted(names - NOT_SHOWN):
        used = re.search(rf"\b{name}(_bucket|_count|_sum)?\b", text)
        if not used and name.startswith(("turnwise_", "process_")):
            wrong.append(f"the gateway has {name}, and no panel shows it")
    for name in sorted(set(re.findall(r"\bturnwise_\w+", text + rules))):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        recorded = re.search(rf":{name}\b", rules) or name == "turnwise"
        if base not in names and not recorded and not LATER.search(name):
            wrong.append(f"a panel or a rule asks for {name}, which the gateway does not have")
    print(f"{len(asked) - len(failing)} of {len(asked)} queries have data")
    for name, *_ in later:
        print(f"  parsed only, since the gateway has no such metric: {name}")
    return wrong + check_rules(prometheus)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--gateway", required=True, type=lambda path: str(pathlib.Path(path).resolve()), help="the turnwise binary"
    )
    parser.add_argument("--dashboard", type=pathlib.Path, default=ROOT / "deploy/grafana/turnwise.json")
    parser.add_argument("--all", action="store_true", help="no metric may be missing at the gateway")
    options = parser.parse_args()
    dashboard = json.loads(options.dashboard.read_text())
    wrong = structure(dashboard)
    if wrong:
        print("\n".join(wrong))
        return 1
    print(f"the dashboard has {len(dashboard['panels'])} panels, each in a place of its own")

    agent = Server(Agent)
    public, admin, nobody = (free_address() for _ in range(3))
    addresses = {"public": public, "admin": admin, "nobody": nobody, "agent": agent.address}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        policy = folder / "gateway.yaml"
        plain = POLICY.format(concurrency=3, **addresses)
        policy.write_text(plain + BACKGROUND)
        verdict = subprocess.run([options.gateway, "check", "-c", str(policy)], capture_output=True, text=True, cwd=folder)
        background = verdict.returncode == 0
        if not background:
            policy.write_text(plain)
        print("background jobs:", "on" if background else "this gateway has none")
        with Scraped(options.gateway, policy, admin, RULES) as prometheus:
            since = time.time()
            make_a_day_of_it(public, admin, policy, background, prometheus)
            prometheus.until(f"{ALERT} fires", f'ALERTS{{alertname="{ALERT}", alertstate="firing"}}')
            print(f"{ALERT} fires, as it should")
            wrong = check(options, folder, dashboard, admin, prometheus, since)
    if wrong:
        print("\n".join(wrong))
        return 1
    print("the dashboard shows what it says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
