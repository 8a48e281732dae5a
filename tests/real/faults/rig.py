"""A gateway before the judge, and what must hold after every row."""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import typing

from asking import ask
from claims import SOON, Failed, give_it_a_chance, require, soon
from metrics import GAUGES, Sample, restless, samples, total
from processes import Watched, address_apart

from .client import Http1
from .upstream import Upstream

LIMIT = 2
# A drain with nothing to do must have ended by then.
PROMPTLY = 3

POLICY = """\
listen: {public}
admin: {{ listen: "{admin}" }}
server: {{ {server} }}
limits: {{ concurrency: 2, {limits} }}
upstreams:
  agents: {{ servers: ["{url}"], {upstream} }}
routes:
  - {{ name: turn, match: {{ path_prefix: /turn }}, session: {{ key: [{{ header: X-Session-Id }}], {session} }} }}
  - {{ name: json, match: {{ path_prefix: /json }}, session: {{ key: [{{ json: /session }}] }} }}
  - name: rate
    match: {{ path_prefix: /rate }}
    rate_limits: [{{ per: route, rate: {rate}, burst: 1, when_exceeded: wait }}]
  - {{ name: finish, match: {{ path_prefix: /finish }}, abandoned: finish }}
  - {{ name: cancel, match: {{ path_prefix: /cancel }}, abandoned: cancel }}
  - {{ name: auto, match: {{ path_prefix: /auto }}, abandoned: auto }}
  - {{ name: hurried, match: {{ path_prefix: /hurried }}, timeouts: {{ response: 1s, idle: 1s }}, abandoned_limit: 1s }}
  - name: aloud
    match: {{ path_prefix: /aloud }}
    session: {{ key: [{{ header: X-Session-Id }}], while_waiting: comments }}
  - name: join
    match: {{ path_prefix: /join }}
    session: {{ key: [{{ header: X-Session-Id }}], duplicates: join }}
  - {{ name: all }}
"""


class Gateway(Watched):
    """The process."""

    def __init__(self, rig: "Rig", stderr: typing.Any = None, **options: typing.Any):
        self.log = rig.folder / f"gateway-{len(os.listdir(rig.folder))}.log"
        command = [*rig.wrapper, rig.binary, "serve", "-c", str(rig.policy), "--log-level", rig.log_level]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log if stderr is None else stderr, **options
            )
        self.admin_address = rig.admin
        try:
            soon("the gateway is ready", self.is_ready)
        except Failed as error:
            self.kill()
            raise Failed(f"{error} | {self.log.read_text()[-500:]}") from None

    def is_ready(self) -> bool:
        require(self.process.poll() is None, f"it ended with {self.process.returncode}", self.log.read_text()[-500:])
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.admin("/-/ready")[0] == 200
        return False

    def admin(self, path: str, method: str = "GET") -> tuple[int, str]:
        answer = ask(f"http://{self.admin_address}{path}", method)
        return answer.status, answer.text

    def metrics(self) -> list[Sample]:
        return samples(self.admin("/metrics")[1])

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series with these labels."""
        return total(self.metrics(), name, **labels)

    def by(self, name: str, label: str) -> collections.Counter:
        sums: collections.Counter = collections.Counter()
        for metric, labels, value in self.metrics():
            if metric == name:
                sums[labels[label]] += int(value)
        return +sums

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit_code(self, within: float = SOON) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"it had not ended {within} s later | {self.log.read_text()[-800:]}") from None

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SOON)


class Rig:
    """Judge, policy and gateway of one row."""

    def __init__(
        self,
        binary: str,
        behaviours: dict | None = None,
        wrapper: typing.Callable | None = None,
        log_level: str = "info",
        stderr: typing.Any = None,
        url: str = "http://{address}",
        popen: dict | None = None,
        mounted: bool = False,
        **policy: str,
    ):
        self.binary = binary
        self.log_level = log_level
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        self.folder.chmod(0o755)
        self.upstream = Upstream(behaviours)
        self.public, self.admin = address_apart(), address_apart()
        self.policy = self.folder / "policy" / "gateway.yaml"
        self.policy.parent.mkdir()
        words = {"limits": "queue_timeout: 30s", "server": "drain_timeout: 20s", "upstream": "", "session": "", "rate": "1/min"}
        words.update(policy)
        url = url.format(address=self.upstream.address, port=self.upstream.bound[1])
        self.text = POLICY.format(public=self.public, admin=self.admin, url=url, **words)
        if mounted:
            # As Kubernetes lays out a ConfigMap.
            (self.policy.parent / "..first").mkdir()
            (self.policy.parent / "..data").symlink_to("..first")
            self.policy.symlink_to("..data/gateway.yaml")
        self.policy.write_text(self.text)
        self.wrapper = wrapper(self) if wrapper else []
        self.stderr = stderr
        self.popen = popen or {}
        # What the gateway must have counted at the end, beside answers with 200.
        self.codes: dict[str, int] = {}
        self.reasons: dict[str, int] = {}
        self.gateway: Gateway | None = None

    def __enter__(self) -> "Rig":
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        self.gateway = Gateway(self, self.stderr, **self.popen)
        self.warm_up()

    def warm_up(self) -> None:
        with self.client() as client:
            client.ask("/warm").answer().ok()
        self.level = soon("as many descriptors twice", self._calm_level)

    def _calm_level(self) -> int | None:
        first = self.held_descriptors()
        time.sleep(0.1)
        return first if self.held_descriptors() == first else None

    def held_descriptors(self) -> int:
        """Those of the gateway that are no connections to the judge, which counts these itself."""
        return self.gateway.descriptors() - self.upstream.open_connections()

    def __exit__(self, *_: object) -> None:
        self.upstream.close()
        if self.gateway:
            self.gateway.kill()
        self.temporary.cleanup()

    def client(self, kind: type = Http1) -> typing.Any:
        return kind(self.public)

    def begun(self, number: int = 1, part: str = "") -> None:
        """The judge has got so many requests with this in their target."""
        soon(f"{number} requests at the upstream", lambda: self.upstream.count(part) >= number)

    def waiting(self, queue: str, number: int = 1) -> None:
        soon(f"{number} wait for {queue}", lambda: self.gateway.metric("turnwise_waiting_requests", queue=queue) == number)

    def placeless(self) -> int:
        return int(self.gateway.metric("turnwise_waiting_requests", queue="place"))

    def occupy(self, number: int = LIMIT, target: str = "/occupied") -> list[Http1]:
        """Requests that hold all places until the judge opens its gate."""
        before = self.upstream.count(target)
        clients = [self.client().ask(target, "hold") for _ in range(number)]
        self.begun(before + number, target)
        return clients

    # The common judge.

    def settle(self) -> str:
        """What must hold after every row."""
        require(self.gateway.process.poll() is None, "the gateway has ended", self.gateway.process.returncode)
        soon("the upstream is idle", lambda: self.upstream.running == 0)
        self.at_rest()
        self.counted()
        with self.client() as client:
            client.ask("/fresh").answer().ok()
        self.exactly_the_limit()
        self.at_rest()
        self.counted()
        soon(
            f"{self.level} descriptors as before",
            lambda: self.held_descriptors() <= self.level,
            within=10,
        )
        require(not self.upstream.faults, "the judge itself failed", self.upstream.faults)
        return "settled"

    def exactly_the_limit(self) -> None:
        self.upstream.shut()
        with self.upstream.lock:
            self.upstream.peak = self.upstream.running
        clients = [self.client().ask("/at-once", "hold") for _ in range(6)]
        try:
            soon("each runs or waits", lambda: self.upstream.running + self.placeless() == 6)
            give_it_a_chance()
            require(self.upstream.running == LIMIT, f"{self.upstream.running} run at once, not {LIMIT}")
        finally:
            self.upstream.open()
        for client in clients:
            with client:
                client.answer().ok()
        require(self.upstream.peak == LIMIT, f"{self.upstream.peak} ran at once, not {LIMIT}")

    def at_rest(self) -> None:
        names = {name for name, _, _ in self.gateway.metrics()}
        missing = [gauge for gauge in GAUGES if gauge not in names and not gauge.endswith("_requests")]
        require(not missing, "gauges are missing", missing)

        def left() -> list[Sample]:
            return restless(self.gateway.metrics())

        soon("the gauges are zero", lambda: not left(), evidence=left)

    def counted(self) -> None:
        """That the gateway has counted what the row says, and nothing else but 200."""
        for metric, label, expected in (
            ("turnwise_requests_total", "code", self.codes),
            ("turnwise_rejected_total", "reason", self.reasons),
        ):
            expected = {str(name): number for name, number in expected.items()}

            def found() -> dict:
                return {name: number for name, number in self.gateway.by(metric, label).items() if name != "200"}

            soon(f"{metric} is {expected}", lambda: found() == expected, within=5, evidence=found)

    def terminate(self) -> None:
        """Asks it to drain, and sees that it does."""
        self.gateway.signal()
        soon("it is not ready", lambda: self.drains())

    def drains(self) -> bool:
        try:
            return self.gateway.admin("/-/ready")[0] == 503
        except (OSError, http.client.HTTPException):
            return self.gateway.process.poll() is not None

    def ended(self, code: int, within: float = SOON) -> str:
        """The gateway ends with this code. Then one at the same addresses starts at once, and serves as any other."""
        began = time.monotonic()
        got = self.gateway.exit_code(within)
        took = time.monotonic() - began
        require(got == code, f"exit code {got}, not {code}", self.gateway.log.read_text()[-500:])
        require("panicked" not in self.gateway.log.read_text(), "it panicked", self.gateway.log.read_text()[-500:])
        self.upstream.open()
        self.codes, self.reasons = {}, {}
        self.start()
        return f"exit {code} after {took:.1f} s"


def status(rig: Rig) -> dict:
    return json.loads(rig.gateway.admin("/status")[1])
