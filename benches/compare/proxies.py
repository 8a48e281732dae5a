"""The three proxies: their configurations with the limits of a measurement filled in, their start and their end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import measure

HERE = Path(__file__).resolve().parent
PROXY_CORE = 0
# HAProxy made to add the fields that Turnwise adds.
WITH_FIELDS = "HAProxy with Turnwise's fields"
LOAD_CORE = 1


@dataclass(frozen=True)
class Limits:
    """What the proxies enforce. The defaults are there and are counted, but refuse nothing of a measured run."""

    at_once: int = 4096
    origin_at_once: int = 20000
    session_at_once: int = 1
    nginx_session_at_once: int = 8
    rate: int = 100
    rate_unit: str = "s"
    burst: int = 10000
    session_key: str = "{ header: X-Session-Id }"

    def but(self, **changes: object) -> Limits:
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Site:
    """Where everything is: the programs, the backends and the folder for what is written."""

    folder: Path
    turnwise: Path
    backend_port: int = 0
    origin_port: int = 0
    connections: int = 20000
    files: int = 65536


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(template: str, values: dict[str, object]) -> str:
    """Replaces `@NAME@`. A name without a value is an error here, not in a proxy with half a configuration."""
    return re.sub(r"@([A-Z_]+)@", lambda found: str(values[found[1]]), (HERE / "conf" / template).read_text())


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def start(command: list[str], core: int, log: Path) -> subprocess.Popen[bytes]:
    """Starts a program on one core only, in a process group of its own: Ctrl-C reaches it through us, in order."""
    with log.open("ab") as out:
        pinned = ["taskset", "-c", str(core), *command]
        return subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its workers, by their ids."""
    workers = children(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for worker in workers:
        deadline = time.monotonic() + 2
        while Path(f"/proc/{worker}").exists():
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                break
            time.sleep(0.02)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}:\n{log.read_text()[-2000:]}")


class Proxy:
    """One running proxy."""

    def __init__(self, name: str, site: Site, limits: Limits) -> None:
        self.name = name
        self.port = free_port()
        self.admin_port = free_port()
        # Of another name each time: a port may come again.
        self.folder = Path(tempfile.mkdtemp(prefix=name.split()[0].lower() + "-", dir=site.folder))
        self.folder.chmod(0o755)  # nginx's worker may be another user
        self._log = self.folder / "log"
        values: dict[str, object] = {
            "PORT": self.port, "ADMIN_PORT": self.admin_port, "FOLDER": self.folder,
            "BACKEND_PORT": site.backend_port, "ORIGIN_PORT": site.origin_port,
            "CONNECTIONS": site.connections, "FILES": site.files, "SOCKETS": site.files - 200,
        } | {key.upper(): value for key, value in vars(limits).items()}
        values["FIELDS"] = fill("haproxy-fields.cfg", values) if name == WITH_FIELDS else ""
        template, command = {
            "Turnwise": ("turnwise.yaml", [str(site.turnwise), "serve", "-c"]),
            "HAProxy": ("haproxy.cfg", ["haproxy", "-db", "-q", "-f"]),
            WITH_FIELDS: ("haproxy.cfg", ["haproxy", "-db", "-q", "-f"]),
            "nginx": ("nginx.conf", ["nginx", "-c"]),
        }[name]
        config = self.folder / template
        config.write_text(fill(template, values))
        self._process = start([*command, str(config)], PROXY_CORE, self._log)
        try:
            wait_for_port(self.port, self._process, self._log)
        except BaseException:
            self.stop()
            raise

    def pids(self) -> list[int]:
        """The process and, with nginx, its worker."""
        return [self._process.pid, *children(self._process.pid)]

    def cpu_ns(self) -> int:
        return measure.cpu_ns(self.pids())

    def rss_kib(self) -> int:
        return measure.rss_kib(self.pids())

    def stop(self) -> None:
        stop(self._process)

    def waiting(self) -> int:
        """How many requests wait in this proxy's queues now, by its own account."""
        if self.name == "Turnwise":
            return int(self.metric("turnwise_waiting_requests"))
        if self.name == "HAProxy":
            return self._haproxy_queue()
        return 0

    def metric(self, name: str) -> float:
        """The sum of a metric of Turnwise over all its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        lines = (line for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def status(self) -> dict[str, object]:
        """What Turnwise says of itself in numbers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/status", timeout=10) as answer:
            return json.load(answer)

    def _haproxy_queue(self) -> int:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.folder / "haproxy.sock"))
            control.sendall(b"show stat\n")
            text = b"".join(iter(lambda: control.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line and not line.startswith("#")]
        return sum(int(row[2] or 0) for row in rows if row[1] in ("one", "BACKEND"))


@contextlib.contextmanager
def running(site: Site, limits: Limits, names: list[str]) -> Iterator[list[Proxy]]:
    """All of these proxies, with the same limits, ended when the block ends, however it ends."""
    with contextlib.ExitStack() as stack:
        proxies = []
        for name in names:
            proxy = Proxy(name, site, limits)
            stack.callback(proxy.stop)
            proxies.append(proxy)
        yield proxies
