"""Turnwise, HAProxy and nginx before the same server, with the same certificates."""

import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import trustme

HERE = pathlib.Path(__file__).parent
NAMES = ("turnwise", "haproxy", "nginx")
CONFIGURATIONS = {"turnwise": "policy.yaml", "haproxy": "haproxy.cfg", "nginx": "nginx.conf"}
# What must be zero when nobody asks for anything.
GAUGES = (
    "turnwise_in_flight_requests",
    "turnwise_waiting_requests",
    "turnwise_sessions_active",
    "turnwise_queue_bytes",
    "turnwise_oldest_wait_seconds",
    "turnwise_oldest_in_flight_seconds",
    "turnwise_connections",
    "turnwise_upstream_connections",
)
# Far beyond what anything here takes: conditions are waited for, and machines may be slow.
SOON = 30


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        sys.exit(f"{name} is not installed")
    return found


def wait_for(port: int, process: subprocess.Popen, log: pathlib.Path) -> None:
    deadline = time.monotonic() + SOON
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                sys.exit(f"nothing listens at {port}:\n{log.read_text()}")
            time.sleep(0.05)


def certificates(folder: pathlib.Path) -> None:
    """An authority, two servers and some clients, good and bad."""
    authority, stranger = trustme.CA(key_type=trustme.KeyType.RSA), trustme.CA(key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    issued = {
        "server": authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.RSA),
        "renewed": authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.RSA),
        "other": authority.issue_cert("other.example", key_type=trustme.KeyType.RSA),
        "client": authority.issue_cert("client.example"),
        "expired": authority.issue_cert("client.example", not_before=past, not_after=past + datetime.timedelta(days=30)),
        "strange": stranger.issue_cert("client.example"),
    }
    for name, certificate in issued.items():
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        key = certificate.private_key_pem.bytes()
        (folder / f"{name}.pem").write_bytes(chain)
        (folder / f"{name}.key").write_bytes(key)
        (folder / f"{name}.both").write_bytes(chain + key)


class Site:
    """The server behind the proxies."""

    def __init__(self, folder: pathlib.Path, modules: pathlib.Path):
        self.port, log = free_port(), folder / "site.log"
        command = [program("node"), str(HERE / "site.mjs"), str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=log.open("w"), stderr=subprocess.STDOUT, env={**os.environ, "MODULES": str(modules.resolve())}
        )
        wait_for(self.port, self.process, log)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(SOON)


class Proxy:
    """One of the three. Ports: `clear`, `http2` (without TLS, by prior knowledge), `tls`, `mutual`, `proxied`."""

    def __init__(self, name: str, folder: pathlib.Path, site: int, script: int, gateway: str):
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        for file in folder.iterdir():
            if file.suffix in (".pem", ".key", ".both"):
                shutil.copy(file, self.folder)
        self.ports = {kind: free_port() for kind in ("clear", "http2", "tls", "mutual", "proxied", "admin")}
        text = (HERE / CONFIGURATIONS[name]).read_text()
        addresses = {**self.ports, "site": site, "script": script}
        for word, port in addresses.items():
            text = text.replace("{%s}" % word, f"127.0.0.1:{port}")
        self.file = self.folder / CONFIGURATIONS[name]
        self.file.write_text(text.replace("{folder}", str(self.folder)))
        if name == "turnwise":
            # It tells the versions apart by itself.
            self.ports["http2"] = self.ports["clear"]
        self.log = self.folder / "log"
        command = {
            "turnwise": lambda: [gateway, "serve", "-c", str(self.file)],
            "haproxy": lambda: [program("haproxy"), "-db", "-f", str(self.file)],
            "nginx": lambda: [program("nginx"), "-c", str(self.file), "-p", str(self.folder)],
        }[name]()
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        for kind in ("clear", "tls"):
            wait_for(self.ports[kind], self.process, self.log)
        self.files_at_rest = 0
        if name == "turnwise":
            self.get("/warm")
            problems = self.unrest(files=False)
            if problems:
                sys.exit(f"the gateway does not come to rest after its start: {problems}")
            self.files_at_rest = self.files()

    def url(self, kind: str, path: str = "/", scheme: str = "") -> str:
        scheme = scheme or ("https" if kind in ("tls", "mutual") else "http")
        return f"{scheme}://localhost:{self.ports[kind]}{path}"

    def get(self, path: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['clear']}{path}", headers={"Connection": "close"})
        try:
            with urllib.request.urlopen(request, timeout=SOON) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/metrics", timeout=SOON) as answer:
            return answer.read().decode()

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def unrest(self, files: bool = True, within: float = SOON) -> list[str]:
        """What is left when nothing should be: only Turnwise tells."""
        if self.process.poll() is not None:
            return [f"{self.name} ended with {self.process.returncode}: {self.log.read_text()[-1000:]}"]
        if self.name != "turnwise":
            return []
        deadline = time.monotonic() + within
        while True:
            metrics, problems = self.metrics(), []
            for gauge in GAUGES:
                values = [float(value) for value in re.findall(rf"^{gauge}(?:\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)]
                if gauge not in metrics:
                    problems.append(f"no {gauge}")
                elif sum(values):
                    problems.append(f"{gauge} is {sum(values):g}")
            if files and (now := self.files()) > self.files_at_rest + 1:
                # One more: the admin connection that asks.
                problems.append(f"{now} open files, not {self.files_at_rest}")
            if not problems or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if "panicked" in self.log.read_text():
            problems.append("it panicked: " + self.log.read_text()[-1000:])
        return problems

    def resident(self) -> float:
        """MiB of memory of the process and its children."""
        total = 0
        for pid in [self.process.pid, *children(self.process.pid)]:
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except FileNotFoundError:
                continue
            total += int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        return total / 1024

    def reload(self) -> None:
        """Turnwise reads certificates by itself; nginx on a signal; a HAProxy without its master does not."""
        if self.name == "nginx":
            self.process.send_signal(signal.SIGHUP)

    def close(self) -> list[str]:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = -1
        return [f"{self.name} ended with {code}: {self.log.read_text()[-1000:]}"] if self.name == "turnwise" and code else []


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


class Counts:
    """What a suite found for one proxy."""

    def __init__(self) -> None:
        self.passed, self.failed, self.skipped, self.note = 0, {}, {}, ""

    def check(self, name: str, problem: str | None) -> None:
        if os.environ.get("VERBOSE"):
            print(f"{time.strftime('%H:%M:%S')} {name}: {problem or 'ok'}", flush=True)
        if problem:
            self.failed[name] = problem
        else:
            self.passed += 1

    def __str__(self) -> str:
        total = self.passed + len(self.failed)
        return f"{self.passed}/{total}" + (f" ({len(self.skipped)} n/a)" if self.skipped else "") + (f" {self.note}" if self.note else "")


def save(folder: pathlib.Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value, indent=1, default=str))
