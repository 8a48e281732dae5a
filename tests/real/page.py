"""A real browser before the status page of a real gateway, with a real agent behind it.

Each function below whose name is a claim shows it and prints what it has seen: a headless Chromium opens the page, reads
what it shows, presses its buttons with the mouse, and is listened to (what it asks for, what it complains of). Exit code 1
when one does not hold.

    python tests/real/page.py --gateway target/release/turnwise [--shots FOLDER] [--only WORD]

`--shots` keeps pictures of the page: wide and narrow, light and dark, idle, under load and with errors.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import signal
import sys
import tempfile
import threading
import time
import typing

import httpx

from browser import Browser, Page
from claims import give_it_a_chance, require, soon
from processes import free_address, start, start_application, stop, wait_for
from serving import Handler, Server

HOSTILE = ['<img src=x onerror="document.title=1">', "</script><script>document.title=1</script>", "a\"b'c&d", "..", "päd/../ö?x=1#y"]
# A name that anybody could own, and that leads to this machine.
REBOUND = "rebound.attacker.com"

POLICY = """\
listen: {public}
admin: {{ listen: "{admin}"{token} }}
server: {{ drain_timeout: 25s }}
limits: {{ concurrency: 4, queue: 8, queue_timeout: 40s }}
upstreams:
  agents:
    servers: ["http://{agent}", "http://{nobody}"]
    concurrency: 3
    health: {{ path: /results, interval: 200ms, timeout: 2s, unhealthy_after: 1 }}
defaults: {{ abandoned: cancel, timeouts: {{ response: 2m }} }}
routes:
  - {{ name: probes, match: {{ path: /results }}, upstream: agents, exempt: true }}
  - {{ name: runs, match: {{ path_prefix: /runs }}, upstream: agents, session: {{ key: [{{ header: X-Session-Id }}], queue: 3, queue_timeout: 40s }} }}
  - {{ name: plain, match: {{ path_prefix: /plain }}, upstream: agents }}
"""


class Clients:
    """Requests that go on beside the browser."""

    def __init__(self, base: str):
        self.base = base
        self.loop = asyncio.new_event_loop()
        self.client = httpx.AsyncClient(timeout=90, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
        self.begun: list = []
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def begin(self, path: str, session: str = "", seconds: float = 60, status: int = 200):
        """One request; its `result()` is the answer."""
        headers = [(b"x-session-id", session.encode())] if session else []
        body = {"message": "m", "seconds": seconds, "status": status}
        asking = self.client.post(f"http://{self.base}{path}", json=body, headers=headers)
        request = asyncio.run_coroutine_threadsafe(asking, self.loop)
        self.begun.append(request)
        return request

    def close(self) -> None:
        for request in self.begun:
            request.cancel()
        asyncio.run_coroutine_threadsafe(self.client.aclose(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)


class House:
    """A gateway before an agent, with clients, and a browser that looks at it."""

    def __init__(self, gateway: str, folder: pathlib.Path, agent: str, browser: Browser, token: str | None = None):
        self.program = gateway
        self.folder = folder
        self.browser = browser
        self.token = token
        (folder / "token").write_text(f"{token}\n")
        self.policy = folder / "gateway.yaml"
        self.public, self.admin = free_address(), free_address()
        self.text = POLICY.format(public=self.public, admin=self.admin, agent=agent, nobody=free_address(), token=", token_file: token" if token else "")
        self.clients = Clients(self.public)
        self.process = None
        self.start()

    def start(self) -> None:
        self.policy.write_text(self.text)
        log = self.folder / "gateway.log"
        self.process = start([self.program, "serve", "-c", self.policy], log)
        wait_for(f"http://{self.admin}/-/ready", self.process, log)

    @property
    def url(self) -> str:
        return f"http://{self.admin}/"

    def ask(self, path: str, method: str = "GET", **fields: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.request(method, f"http://{self.admin}/{path}", headers=headers | fields, timeout=10)

    def until(self, what: str, holds: typing.Callable[[dict], bool]) -> None:
        status: dict = {}

        def seen() -> bool:
            status.update(self.ask("status").json())
            return holds(status)

        soon(what, seen, 30, 0.05, evidence=lambda: status)

    def busy(self, session: str, waiting: int) -> list:
        """One that runs and so many that wait for their turn."""
        before = self.ask("status").json()["sessions"]["waiting"]
        requests = [self.clients.begin("/runs/work", session)]
        self.until("one runs", lambda _: any(one["key"] == session and one["running"] for one in self.ask("sessions").json()))
        requests += [self.clients.begin("/runs/work", session) for _ in range(waiting)]
        self.until("they wait", lambda status: status["sessions"]["waiting"] == before + waiting)
        return requests

    def page(self, **look: typing.Any) -> Page:
        page = self.browser.page(**look)
        page.open(self.url)
        if not self.token:
            page.until("!document.querySelector('#main').hidden", "the page shows something")
        return page

    def close(self) -> None:
        self.clients.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def quiet(page: Page, *but: str) -> None:
    """That a page has asked nobody else for anything, and has complained of nothing but these."""
    origin = page.value("location.origin")
    elsewhere = [url for url in page.requested() if not url.startswith((f"{origin}/", "data:"))]
    require(not elsewhere, "it asked elsewhere", elsewhere)
    complaints = [said for said in page.complaints() if not any(word in said for word in but)]
    require(not complaints, "the console has errors", complaints)


def openers(page: Page) -> list[str]:
    return page.value("[...document.querySelectorAll('#sessions .opener')].map((one) => one.textContent)")


def tile(page: Page, name: str) -> str:
    return page.value(f"document.querySelector('#{name} strong').textContent")


# The claims.


def values_appear_and_change_without_a_reload(house: House) -> str:
    page = house.page()
    page.value("window.marked = true")
    page.until("document.querySelector('#running strong').textContent === '0'")
    running = [house.clients.begin("/plain/work", seconds=60) for _ in range(2)] + house.busy("alice", 2)
    page.until("document.querySelector('#running strong').textContent === '3'", "three run")
    page.until("document.querySelector('#waiting strong').textContent === '2'", "two wait")
    waiting = house.clients.begin("/plain/work", seconds=1)
    page.until("document.querySelector('#wrong').innerText.includes('all 3 of upstream agents are taken')", "which limit is full")
    require("alice" in openers(page), "no session alice", openers(page))
    cells = page.value("[...document.querySelectorAll('#routes tbody tr')].map((row) => row.innerText.replace(/\\s+/g, ' '))")
    require(any(cell.startswith("runs agents 1 2") for cell in cells), "no such route", cells)
    require("1 of 2 healthy" in page.text("#upstreams") and "fails its checks" in page.text("#upstreams"), "no servers", page.text("#upstreams"))
    path = "document.querySelector('#running path.area').getAttribute('d')"
    drawn = page.until(f"{path}.length > 0 && {path}", "something is drawn")
    page.until(f"{path} !== {json.dumps(drawn)}", "the plot goes on")
    house.ask("sessions/alice?running=true", "DELETE")
    for request in running[:2]:
        request.cancel()
    house.until("nothing runs", lambda status: status["limits"]["in_flight"] == 0 and not waiting.running())
    page.until("document.querySelector('#running strong').textContent === '0'", "nothing runs any more")
    page.until("document.querySelectorAll('#sessions .opener').length === 0", "no session is left")
    require(page.value("window.marked === true && performance.getEntriesByType('navigation').length === 1"), "it was loaded again")
    quiet(page)
    page.close()
    return f"0, 3 running and 2 waiting, 0 again; {len(page.requested())} requests, all to the gateway"


def what_clients_choose_is_only_text(house: House) -> str:
    requests = [house.clients.begin("/runs/work", key) for key in HOSTILE]
    house.until("all are there", lambda status: status["sessions"]["active"] == len(HOSTILE))
    page = house.page()
    page.until(f"document.querySelectorAll('#sessions .opener').length === {len(HOSTILE)}")
    require(sorted(openers(page)) == sorted(HOSTILE), "other keys", openers(page))
    for key in HOSTILE:
        page.click("#sessions .opener", key)
        page.until(f"document.querySelectorAll('#sessions .under:not([hidden]) tbody tr').length === {HOSTILE.index(key) + 1}", f"{key} opens to its request")
    page.click("#sessions button.danger", "Interrupt")
    shown = page.until("document.querySelector('#dialog[open]') && document.querySelector('#dialog .key').textContent")
    require(shown in HOSTILE, "another key in the dialog", shown)
    page.click("#dialog button", "Leave it")
    counts = page.value("[document.images.length, document.scripts.length, document.querySelectorAll('#sessions img, #sessions script').length]")
    require(counts == [0, 1, 0] and page.value("document.title !== '1'"), "markup came of a key", counts)
    for key in HOSTILE:
        page.click("#sessions .opener", key)
    for request in requests:
        request.cancel()
    # The script could not make markup of text if it tried to.
    tried = page.value("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'done'; } catch (error) { return error.name; } })()")
    require(tried == "TypeError", "innerHTML works", tried)
    quiet(page, "TrustedHTML")
    page.close()
    house.until("all have gone", lambda status: status["sessions"]["active"] == 0)
    return f"{len(HOSTILE)} keys shown as they are"


def a_session_is_cleared_and_interrupted_once_that_is_confirmed(house: House) -> str:
    requests = house.busy("<b>bob</b>", 2)
    page = house.page()
    page.click("#sessions .opener", "bob")
    page.until("document.querySelectorAll('#sessions .detail tbody tr').length === 3", "three requests")
    words = page.value("[...document.querySelectorAll('#sessions .detail td.name')].map((one) => one.textContent)")
    require(words == ["runs", "waits for its turn, as number 1", "waits for its turn, as number 2"], "other words", words)
    page.click("#sessions .detail button", "Clear 2 waiting requests")
    page.until("document.querySelector('#dialog').open")
    require("<b>bob</b>" in page.text("#dialog"), "the dialog does not say whose", page.text("#dialog"))
    page.press("Escape", 27)
    page.until("!document.querySelector('#dialog').open")
    page.click("#sessions .detail button", "Clear")
    page.click("#dialog button", "Leave it")
    page.until("!document.querySelector('#dialog').open")
    give_it_a_chance()
    require(not any(request.done() for request in requests), "something ended that nobody had confirmed")
    asked = [event["request"]["method"] for event in page.of("Network.requestWillBeSent")]
    require("DELETE" not in asked, "what nobody had confirmed was asked for", asked)
    page.click("#sessions .detail button", "Clear")
    page.click("#dialog button", "Clear")
    for request in requests[1:]:
        answer = request.result(20)
        require(answer.status_code == 409 and answer.json()["reason"] == "interrupted", "another answer", answer.text)
    page.until("document.querySelector('#said').textContent === 'Ended 2 requests.'", "what came of it")
    require(not requests[0].done(), "clearing ended what runs")
    # With the rows that go, the button behind them moves.
    page.until("document.querySelectorAll('#sessions .detail tbody tr').length === 1", "one request is left")
    page.click("#sessions .detail button.danger", "Interrupt")
    page.click("#dialog button.danger", "Interrupt")
    answer = requests[0].result(20)
    require(answer.status_code == 409 and answer.json()["reason"] == "interrupted", "another answer", answer.text)
    page.until("document.querySelector('#sessions .detail').innerText.includes('any more')", "it says that none is left")
    # Who is asked for in the moment of its end is not found.
    quiet(page, "404")
    page.close()
    return "Escape and `Leave it` end nothing; 2 cleared, then 1 interrupted"


def with_a_token_the_page_asks_for_it_and_keeps_it_in_its_tab(house: House) -> str:
    requests = house.busy("carol", 1)
    page = house.page()
    page.until("document.querySelector('#ask-token').checkVisibility()", "it asks")
    require(page.value("document.querySelector('#main').hidden"), "it shows something without the token")
    for token in ("wrong", house.token):
        page.click("#token")
        page.type(token)
        page.press("Enter", 13)
        page.click("#ask-token button")
        if token == "wrong":
            page.until("document.querySelector('#token-note').textContent === 'That is not its token.'")
    page.until("!document.querySelector('#main').hidden && !document.querySelector('#ask-token').checkVisibility()", "it opens")
    kept = page.value("[Object.values({...sessionStorage}), Object.keys({...localStorage}), document.cookie]")
    require(kept == [[house.token], [], ""], "it is kept elsewhere", kept)
    require(house.token not in page.value("document.documentElement.outerHTML + location.href"), "the token can be seen")
    page.click("#sessions .opener", "carol")
    page.click("#sessions .detail button", "Clear 1 waiting request")
    page.click("#dialog button", "Clear")
    require(requests[1].result(20).status_code == 409, "it was not cleared", requests[1].result().text)
    page.open(house.url)
    page.until("!document.querySelector('#main').hidden", "the same tab knows it")
    other = house.page()
    other.until("document.querySelector('#ask-token').checkVisibility()", "another tab asks")
    page.click("#forget")
    page.until("document.querySelector('#ask-token').checkVisibility() && sessionStorage.length === 0", "it is forgotten")
    for one in (page, other):
        quiet(one, "401", "404")
        one.close()
    requests[0].cancel()
    house.until("all have gone", lambda status: status["sessions"]["active"] == 0)
    return "refused, asked for, refused with a wrong one, then used; another tab asks again"


def a_policy_that_does_not_hold_is_shown_with_line_and_column(house: House) -> str:
    page = house.page()
    house.policy.write_text(house.text.replace("    concurrency: 3", "    concurency: 3"))
    line = house.text.splitlines().index("    concurrency: 3") + 1
    where = f"gateway.yaml:{line}:5 upstreams.agents.concurency"
    page.until(f"document.querySelector('#wrong').innerText.includes({json.dumps(where + ': unknown key')})", "on top")
    require(where in page.text("#problems") and "did you mean `concurrency`?" in page.text("#problems"), "not below", page.text("#policy"))
    require("generation 1 in force" in page.text("#policy-note") and "reload failed" in page.text("#policy-note"), "not since when", page.text("#policy-note"))
    page.click("#reload")
    page.until("document.querySelector('#said').textContent.startsWith('The policy was not reloaded')", "what came of the button")
    house.policy.write_text(house.text.replace("concurrency: 4,", "concurrency: 5,"))
    page.click("#reload")
    page.until("document.querySelector('#problems').childElementCount === 0 && document.querySelector('#running .beside').textContent === 'of 5'")
    page.click("details summary")
    page.until("document.querySelector('#config').textContent.includes('queue_timeout')", "the policy in force")
    quiet(page, "422")
    page.close()
    return f"{where}; mended and reloaded by the button"


def pages_of_other_sites_change_nothing_and_read_nothing(house: House) -> str:
    """Against a page of another origin (CSRF), and against one whose own name leads to the gateway (DNS rebinding)."""

    class Site(Handler):
        def do_GET(self) -> None:
            form = f"<form method=post action='{house.url}-/drain' target=there><button>x</button></form><iframe name=there></iframe>"
            self.answer(form.encode(), kind="text/html")

    requests = house.busy("dora", 1)
    with Server(Site) as site:
        port = site.server_port
        admin = house.admin.split(":")[1]
        seen = {}
        # Another port is another origin, but the same site; another name is another site.
        for name, base in (("same-site", f"http://127.0.0.1:{port}/"), ("cross-site", f"http://{REBOUND}:{port}/")):
            page = house.browser.page()
            page.open(base)
            page.value("document.querySelector('form').submit()")
            for path, method in (("-/drain", "POST"), ("-/reload", "POST"), ("sessions/dora?running=true", "DELETE")):
                # What it answers cannot be read; what counts is what it does.
                page.value(f"fetch('{house.url}{path}', {{method: '{method}', mode: '{'no-cors' if method == 'POST' else 'cors'}'}}).then(() => 1, () => 0)")
            read = page.value(f"fetch('{house.url}sessions').then((answer) => answer.text(), () => '')")
            require("dora" not in read, "another site reads", read)
            shown = [event["response"]["status"] for event in page.of("Network.responseReceived") if "/-/" in event["response"]["url"]]
            posts = {event["requestId"] for event in page.of("Network.requestWillBeSent") if event["request"]["method"] == "POST"}
            # A frame of another site is not this page's to tell of.
            require(len(posts) >= 2, "they were not sent", page.of("Network.requestWillBeSent"))
            shown = [event["statusCode"] for event in page.of("Network.responseReceivedExtraInfo") if event["requestId"] in posts]
            require(len(shown) >= 2 and set(shown) == {403}, "not all refused", shown, posts)
            seen[name] = len(shown)
            page.close()
    rebound = house.browser.page()
    rebound.open(f"http://{REBOUND}:{admin}/")
    answers = {}
    for path, method in (("status", "GET"), ("sessions", "GET"), ("history", "GET"), ("config", "GET"), ("-/drain", "POST"), ("-/reload", "POST"), ("sessions/dora", "DELETE")):
        headers = "{'Accept-Language': '', 'User-Agent': 'curl/8'}"
        answers[path] = rebound.value(f"fetch('/{path}', {{method: '{method}', headers: {headers}, referrerPolicy: 'no-referrer'}}).then((answer) => answer.status)")
    require(set(answers.values()) == {403}, "a rebound name is served", answers)
    rebound.until("document.querySelector('#banners').innerText.includes('admin.token_file')", "it says what to do")
    rebound.close()
    require(not any(request.done() for request in requests), "something ended")
    status = house.ask("status").json()
    require(not status["draining"] and status["policy"]["generation"] == 1, "something changed", status)
    named = f"http://localhost:{admin}/"
    page = house.browser.page()
    page.open(named)
    page.until("!document.querySelector('#main').hidden", "localhost is served")
    page.close()
    ours = [house.ask("-/reload", "POST").status_code, house.ask("status", Host=f"{REBOUND}:{admin}").status_code]
    require(ours == [200, 200], "a script is refused", ours)
    house.ask("sessions/dora?running=true", "DELETE")
    return f"refused: {seen} from elsewhere, {len(answers)} under a rebound name; localhost and scripts go on"


def background_jobs_are_shown_where_there_are_any(house: House) -> str:
    """The gateway's own answers, but for the jobs in them, which are put in on their way to the page."""
    page = house.page()
    require(page.value("document.querySelector('#jobs').hidden"), "jobs are shown though there are none")
    jobs = {"queued": 1, "running": 0, "retrying": 1, "succeeded": 7, "failed": 1, "cancelled": 0, "oldest_age_seconds": 84.2}
    listed = [
        {"id": "j<i>1", "route": "runs", "status": "failed", "attempts": 3, "created_at": "2026-11-26T10:00:00Z", "error": "<b>503</b>"},
        {"id": "j2", "route": "runs", "status": "queued", "attempts": 0, "created_at": "2026-11-26T10:00:00Z", "error": None},
    ]
    page.value(f"""(() => {{
        const fetched = window.fetch;
        window.asked = [];
        window.fetch = async (path, options) => {{
            if (path.startsWith("jobs")) {{
                window.asked.push(`${{options.method}} ${{path}}`);
                return new Response(JSON.stringify({json.dumps(listed)}));
            }}
            const answer = await fetched(path, options);
            if (path !== "status" || !answer.ok) return answer;
            const status = await answer.json();
            return new Response(JSON.stringify({{ ...status, jobs: {json.dumps(jobs)} }}), {{ headers: answer.headers }});
        }};
    }})()""")
    page.until("!document.querySelector('#jobs').hidden && document.querySelectorAll('#jobs tbody tr').length === 2", "two jobs")
    require("queued 1" in page.text("#jobs-note") and "<b>503</b>" in page.text("#jobs tbody"), "other words", page.text("#jobs"))
    page.click("#jobs button", "Retry")
    page.click("#dialog button", "Retry")
    page.click("#jobs button.danger", "Cancel")
    page.click("#dialog button.danger", "Cancel the job")
    page.until("window.asked.includes('POST jobs/j%3Ci%3E1/retry') && window.asked.includes('DELETE jobs/j2')", "both were asked for")
    quiet(page)
    page.close()
    return "hidden without; two with their buttons where the status has jobs"


def a_gateway_that_is_lost_is_missed_and_found_again(house: House) -> str:
    page = house.page()
    house.process.send_signal(signal.SIGKILL)
    house.process.wait()
    page.until("document.querySelector('#banners').innerText.startsWith('Lost the gateway: no answer for')", "it is missed")
    require(page.text("#state") == "LOST" and page.value("document.title").startswith("LOST"), "not in the title", page.text("#state"))
    before = len(page.requested())
    house.start()
    page.until("document.querySelector('#banners').childElementCount === 0 && document.querySelector('#state').textContent !== 'lost'", "it is found")
    page.until("document.querySelector('#wrong').innerText.includes('The gateway started')", "it says that this is another one")
    quiet(page, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET")
    page.close()
    return f"missed, found after {len(page.requested()) - before} more requests"


def a_drain_is_shown_to_its_end(house: House) -> str:
    page = house.page()
    running = house.clients.begin("/plain/work", seconds=5)
    house.until("it runs", lambda status: status["limits"]["in_flight"] == 1)
    require(house.ask("-/drain", "POST").status_code == 200, "no drain")
    said = page.until("/^Draining: 1 request is left. What has not ended in .* s is cut.$/.test(document.querySelector('#banners').innerText.trim()) && document.querySelector('#banners').innerText")
    require(page.text("#state") == "DRAINING", "not in the header", page.text("#state"))
    require(running.result(20).status_code == 200, "what ran was cut", running)
    house.process.wait(30)
    page.until("document.querySelector('#banners').innerText.startsWith('The gateway has drained')", "its end is told")
    quiet(page, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET")
    page.close()
    return said.strip()


CLAIMS = [
    values_appear_and_change_without_a_reload,
    what_clients_choose_is_only_text,
    a_session_is_cleared_and_interrupted_once_that_is_confirmed,
    with_a_token_the_page_asks_for_it_and_keeps_it_in_its_tab,
    a_policy_that_does_not_hold_is_shown_with_line_and_column,
    pages_of_other_sites_change_nothing_and_read_nothing,
    background_jobs_are_shown_where_there_are_any,
    a_gateway_that_is_lost_is_missed_and_found_again,
    a_drain_is_shown_to_its_end,
]

LOOKS = {"light": {}, "dark": {"dark": True}, "phone": {"width": 390, "height": 844}}


def pictures(house: House, folder: pathlib.Path) -> None:
    """What a person has to judge."""
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str, opened: str = "") -> None:
        for look, options in LOOKS.items():
            page = house.page(**options)
            page.until("document.querySelector('#running path').getAttribute('d').length > 0", "a sample")
            if opened:
                page.click("#sessions .opener", opened)
                page.until("document.querySelector('#sessions .detail tbody tr')")
                page.leave()
            page.shot(folder / f"{name}-{look}.png")
            page.close()

    take("idle")
    house.busy("alice", 3)
    house.busy("tenant-17/ticket 4711", 2)
    for _ in range(3):
        house.clients.begin("/runs/work", "alice")
    house.clients.begin("/plain/work")
    for _ in range(4):
        house.clients.begin("/plain/work", seconds=1)
    house.until("some wait for a place", lambda status: status["limits"]["waiting"] == 4)
    drawn = len(house.ask("history").json()["samples"])
    house.until("the plots show it", lambda _: len(house.ask("history").json()["samples"]) >= drawn + 3)
    take("load", "alice")
    house.policy.write_text(house.text.replace("    concurrency: 3", "    concurency: 3"))
    house.until("it is noticed", lambda status: status["policy"]["problems"])
    take("error")
    house.ask("-/drain", "POST")
    house.until("it drains", lambda status: status["draining"])
    take("draining")


def picturing(folder: pathlib.Path) -> typing.Callable[[House], str]:
    def pictures_are_taken(house: House) -> str:
        pictures(house, folder)
        return f"in {folder}"

    return pictures_are_taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the turnwise binary")
    parser.add_argument("--shots", type=pathlib.Path, help="where pictures go")
    parser.add_argument("--only", default="", help="claims whose name has this in it")
    options = parser.parse_args()
    failures = 0
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        agent = free_address()
        server = start_application("conversing:app", agent, folder / "agent.log")
        stack.callback(stop, server)
        wait_for(f"http://{agent}/results", server, folder / "agent.log")
        browser = Browser(resolve=f"MAP {REBOUND} 127.0.0.1")
        stack.callback(browser.close)
        claims = [claim for claim in CLAIMS if options.only in claim.__name__]
        if options.shots:
            claims.append(picturing(options.shots))
        for number, claim in enumerate(claims):
            name = claim.__name__.replace("_", " ")
            mine = folder / str(number)
            mine.mkdir()
            token = "s3cret-7" if "token" in name else None
            house = House(options.gateway, mine, agent, browser, token)
            began = time.monotonic()
            try:
                print(f"ok      {name}: {claim(house)} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception as error:
                failures += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
                print((mine / "gateway.log").read_text()[-1500:], flush=True)
            finally:
                house.close()
    print(f"{failures} of {len(claims)} claims do not hold" if failures else f"all {len(claims)} claims hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
