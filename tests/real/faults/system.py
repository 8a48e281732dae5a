"""The machine around the gateway: names, descriptors, memory, disks, clocks, and whoever reads the log."""

import datetime
import fcntl
import functools
import glob
import json
import os
import random
import socket
import subprocess
import threading
import time
import typing

from claims import require, soon

from .client import Http1
from .policies import replace
from .rig import LIMIT, PROMPTLY, Rig
from .table import Row

# Refused, and told to the log where it says everything.
REFUSED = b"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n"


# Names. The gateway gets files of its own for what a name means, in a mount namespace of its own.

IN_A_NAMESPACE = """\
set -e
for name in hosts resolv.conf nsswitch.conf; do mount --bind "$0/$name" "/etc/$name"; done
exec "$@"
"""


def names(rig: Rig, sources: str, resolver: str) -> list[str]:
    (rig.folder / "hosts").write_text("127.0.0.1 localhost agents.test\n")
    (rig.folder / "resolv.conf").write_text(f"nameserver {resolver}\noptions timeout:5 attempts:2\n")
    (rig.folder / "nsswitch.conf").write_text(f"hosts: {sources}\n")
    return ["unshare", "--mount", "sh", "-c", IN_A_NAMESPACE, str(rig.folder)]


def name_stops_resolving(binary: str) -> str:
    wrapper = functools.partial(names, sources="files", resolver="127.0.0.1")
    with Rig(binary, url="http://agents.test:{port}", wrapper=wrapper) as rig:
        (rig.folder / "hosts").write_text("127.0.0.1 localhost\n")
        # Names are looked up for each new connection; those that are open serve on.
        with rig.client() as client:
            client.ask("/kept").answer()
        rig.upstream.hang_up()
        soon("no connection is open", lambda: rig.upstream.open_connections() == 0)
        with rig.client() as client:
            answer = client.ask("/lost").answer().problem(502, "upstream_connect")
        # A refused connection is another fault, and sends people looking elsewhere.
        require("error=dns_error" in answer.field("proxy-status"), "another error", answer.field("proxy-status"))
        refused = int(rig.gateway.metric("turnwise_requests_total", code="502"))
        (rig.folder / "hosts").write_text("127.0.0.1 localhost agents.test\n")
        rig.codes, rig.reasons = {502: refused}, {"upstream_connect": refused}
        rig.settle()
        return "502 upstream_connect, dns_error"


def resolver_falls_silent(binary: str) -> str:
    """What asks a resolver that never answers cannot be called off. It must hold up nobody else, and not the end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind((f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}", 53))
        wrapper = functools.partial(names, sources="files dns", resolver=resolver.getsockname()[0])
        upstream = "connect_timeout: 300ms, retry: { attempts: 1 }"
        with Rig(binary, url="http://agents.test:{port}", wrapper=wrapper, upstream=upstream) as rig:
            (rig.folder / "hosts").write_text("127.0.0.1 localhost\n")
            rig.upstream.hang_up()
            soon("no connection is open", lambda: rig.upstream.open_connections() == 0)
            clients = [rig.client().ask("/lost") for _ in range(6)]
            for client in clients:
                with client:
                    client.answer().problem(504, "upstream_timeout")
            (rig.folder / "hosts").write_text("127.0.0.1 localhost agents.test\n")
            rig.codes, rig.reasons = {504: 6}, {"upstream_timeout": 6}
            rig.settle()
            (rig.folder / "hosts").write_text("127.0.0.1 localhost\n")
            rig.upstream.hang_up()
            soon("no connection is open", lambda: rig.upstream.open_connections() == 0)
            with rig.client() as client:
                client.ask("/lost").answer().problem(504, "upstream_timeout")
            rig.gateway.signal()
            began = time.monotonic()
            code = rig.gateway.exit_code()
            took = time.monotonic() - began
            (rig.folder / "hosts").write_text("127.0.0.1 localhost agents.test\n")
            require(took < PROMPTLY, f"with nothing running the end took {took:.1f} s")
            rig.ended(code)
            require(code == 0, "another exit code", code)
            rig.settle()
            return f"504 upstream_timeout; a drain took {took:.1f} s"


# Descriptors.


def no_descriptor_to_spare(binary: str) -> str:
    def few(rig: Rig) -> list[str]:
        return ["prlimit", "--nofile=128:128"]

    with Rig(binary, wrapper=few) as rig:
        with rig.client() as kept:
            kept.ask("/kept").answer().ok()
            crowd = [rig.client() for _ in range(200)]
            before, most = rig.gateway.cpu_seconds(), 0
            for _ in range(20):
                most = max(most, rig.gateway.descriptors())
                kept.ask("/kept").answer().ok()
                time.sleep(0.1)
            spent = rig.gateway.cpu_seconds() - before
            lines = rig.gateway.log.read_text().count("\n")
            for client in crowd:
                client.leave()
        rig.settle()
        require(most < 128, f"clients took {most} of 128 descriptors, and left none for the server")
        require(spent < 0.5, f"it spent {spent:.2f} s of 2 s on accepting in vain")
        require(lines < 20, f"{lines} lines in the log for 2 s")
        return f"{most} of 128 in use, {spent:.2f} s of CPU in 2 s, a kept connection was always served"


def descriptors_taken_away(binary: str) -> str:
    """A limit that is lowered below what is in use: the gateway's own trouble, which no server is blamed for."""
    with Rig(binary, upstream="connect_timeout: 300ms, pool: { max_idle: 0 }, eject: { after_failures: 1, for: 60s }") as rig:
        pid = str(rig.gateway.process.pid)
        shown = ["prlimit", "--pid", pid, "--nofile", "--noheadings", "--raw", "--output=SOFT,HARD"]
        soft, hard = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()
        with rig.client() as client:
            client.ask("/accepted").answer().ok()
            subprocess.run(["prlimit", "--pid", pid, f"--nofile=10:{hard}"], check=True)
            for _ in range(3):
                client.ask("/refused").answer().problem(503, "queue_full")
            subprocess.run(["prlimit", "--pid", pid, f"--nofile={soft}:{hard}"], check=True)
            client.ask("/served").answer().ok()
        rig.codes, rig.reasons = {503: 3}, {"queue_full": 3}
        rig.settle()
        return "503 queue_full, no server blamed; served at once when there were some again"


# Memory.

MEBIBYTE = 1 << 20


def held_bodies_are_bounded(binary: str) -> str:
    """Sixty bodies of 1 MiB, and room for eight."""
    with Rig(binary, limits="queue_timeout: 30s, queue_bytes: 8MiB") as rig:
        clients = [rig.client().ask("/json/first", "hold", b'{"session":"%d"}' % number) for number in range(LIMIT)]
        rig.begun(LIMIT, "/json/first")
        before, most, held = rig.gateway.resident(), 0, 0
        for number in range(60):
            body = (b'{"session":"s%d","text":"' % number).ljust(MEBIBYTE - 2, b"x") + b'"}'
            clients.append(rig.client().ask("/json/more", "answer", body))
            most = max(most, rig.gateway.resident())
            held = max(held, rig.gateway.metric("turnwise_queue_bytes"))
        soon("most are refused", lambda: rig.gateway.metric("turnwise_rejected_total", reason="queue_full") >= 50)
        most = max(most, rig.gateway.resident())
        rig.upstream.open()
        answers = []
        for client in clients:
            with client:
                answers.append(client.answer())
        refused = sum(answer.status == 503 for answer in answers)
        for answer in answers:
            answer.problem(503, "queue_full") if answer.status == 503 else answer.ok()
        rig.codes, rig.reasons = {503: refused}, {"queue_full": refused}
        rig.settle()
        require(held <= 8 * MEBIBYTE, f"{held} octets were held")
        grown = most - before
        require(grown < 40, f"it grew by {grown:.0f} MiB")
        return f"{refused} refused, {held / MEBIBYTE:.0f} MiB held at most, grown by {grown:.0f} MiB"


def streamed_bodies_are_not_held(binary: str) -> str:
    """Uploads that wait for a place, and a download that nobody takes, stay where they come from."""

    def endless(exchange: typing.Any) -> None:
        exchange.read_body()
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        piece = b"x" * MEBIBYTE
        for _ in range(190):
            if not exchange.write(piece):
                return

    with Rig(binary, {"endless": endless}) as rig:
        before = rig.gateway.resident()
        readers = [rig.client().ask("/endless", "endless") for _ in range(LIMIT)]
        rig.begun(LIMIT, "/endless")
        for reader in readers:
            reader.until(b"xxxx")
        clients = [rig.client().ask("/waits", body=b"x" * 60_000, length=16_000_000) for _ in range(50)]
        rig.waiting("place", 50)
        # Long enough to take what it should leave where it is.
        time.sleep(0.5)
        grown = rig.gateway.resident() - before
        for client in [*clients, *readers]:
            client.reset()
        rig.codes = {499: 50 + LIMIT}
        rig.settle()
        require(grown < 40, f"it grew by {grown:.0f} MiB")
        return f"50 uploads wait, 2 downloads stand still, grown by {grown:.0f} MiB"


# Who reads the log.


def says_much(rig: Rig) -> None:
    """A hundred requests of which each is a line in the log, and a hundred that are served."""
    for _ in range(10):
        with Http1(rig.public, timeout=5) as client:
            for _ in range(10):
                client.ask("/served").answer().ok()
    for _ in range(100):
        with Http1(rig.public, timeout=5) as client:
            client.raw(REFUSED).answer().problem(400, "bad_request")
    replace(rig.policy, "wrong")
    require(rig.gateway.admin("/-/reload", "POST")[0] == 422, "the wrong policy was not refused")
    replace(rig.policy, rig.text)
    require(rig.gateway.admin("/-/reload", "POST")[0] == 200, "the mended policy was refused")
    rig.codes, rig.reasons = {400: 100}, {"bad_request": 100}


def drains_at_once(rig: Rig) -> str:
    with rig.client() as idle:
        idle.ask("/idle").answer().ok()
        rig.gateway.signal()
        code = rig.gateway.exit_code(PROMPTLY)
    require(code == 0, "another exit code", code)
    return "exit 0"


def goes_on_whatever_becomes_of_its_log(binary: str, **options: typing.Any) -> str:
    with Rig(binary, log_level="debug", **options) as rig:
        says_much(rig)
        rig.settle()
        return f"200 served, 100 refused, 2 reloads, {drains_at_once(rig)}"


def log_on_a_full_device(binary: str) -> str:
    with open("/dev/full", "w") as full:
        return goes_on_whatever_becomes_of_its_log(binary, stderr=full)


def log_on_a_full_disk(binary: str) -> str:
    script = 'mount -t tmpfs -o size=16k none "$0" && exec "$@" 2>"$0/log"'

    def small(rig: Rig) -> list[str]:
        (rig.folder / "disk").mkdir()
        return ["unshare", "--mount", "sh", "-c", script, str(rig.folder / "disk")]

    return goes_on_whatever_becomes_of_its_log(binary, wrapper=small)


def log_that_nobody_reads(binary: str, full: bool) -> str:
    """Lines may be lost; requests, reloads and the end wait for no reader."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        if full:
            os.set_blocking(writing, False)
            while True:
                try:
                    os.write(writing, b"x" * 512)
                except BlockingIOError:
                    break
            os.set_blocking(writing, True)
        return goes_on_whatever_becomes_of_its_log(binary, stderr=writing)
    finally:
        os.close(reading)
        os.close(writing)


def log_that_is_read_too_late(binary: str) -> str:
    """More lines than can wait to be written: each is told once and whole, or counted as lost."""
    told: list[dict] = []

    def listen() -> None:
        with os.fdopen(reading) as lines:
            told.extend(json.loads(line) for line in lines)

    def of_requests() -> int:
        return sum(line["message"] == "request" for line in list(told))

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    reader = threading.Thread(target=listen)
    try:
        with Rig(binary, stderr=writing, popen={"env": {**os.environ, "TURNWISE_LOG_REQUESTS": "all"}}) as rig:
            os.close(writing)

            def lost() -> int:
                return int(rig.gateway.metric("turnwise_log_lines_dropped_total"))

            asking = [binary, "stress", "--url", f"http://{rig.public}", "--test", "custom", "--method", "GET", "--path", "/said"]
            load = ["--requests", "11000", "--concurrency", "8", "--max-error-rate", "0"]
            asked = subprocess.run([*asking, *load], capture_output=True, text=True, timeout=120)
            require(asked.returncode == 0, "not every request was served", asked.stdout[-500:])
            soon("lines are lost", lost)
            rig.settle()
            reader.start()
            soon(
                "each request is told or lost",
                lambda: of_requests() + lost() == rig.upstream.count(),
                evidence=lambda: (of_requests(), lost(), rig.upstream.count()),
            )
            came = f"{of_requests()} told, {lost()} lost, {drains_at_once(rig)}"
        reader.join(PROMPTLY)
        require(not reader.is_alive(), "the log has no end")
        ids = [line["request_id"] for line in told if line["message"] == "request"]
        require(len(set(ids)) == len(ids), "a request was told twice")
        return came
    finally:
        if reader.ident is None:
            os.close(reading)


def log_whose_reader_has_gone(binary: str) -> str:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return goes_on_whatever_becomes_of_its_log(binary, stderr=writing)
    finally:
        os.close(writing)


# The clock on the wall.


def clock_is_set(binary: str) -> str:
    """A day forward and two back, while requests wait for a rate and for a place: neither early, nor late, nor refused."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    require(bool(libraries), "libfaketime is not installed")

    def faked(rig: Rig) -> list[str]:
        (rig.folder / "now").write_text("+0d")
        settings = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(rig.folder / "now"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items())]

    with Rig(binary, wrapper=faked, limits="queue_timeout: 3s", rate="30/min") as rig:
        seen = []
        for shift in ("+1d", "-1d"):
            with rig.client() as first, rig.client() as second:
                first.ask("/rate/first").answer().ok()
                asked = time.monotonic()
                second.ask("/rate/second")
                rig.waiting("rate")
                (rig.folder / "now").write_text(shift)
                second.answer().ok()
                waited = time.monotonic() - asked
            require(1.5 < waited < 10, f"after {shift} it waited {waited:.1f} s of 2 s for a token")
            # The bucket is as empty as before.
            seen.append(f"{shift}: {waited:.1f} s")
            running = rig.occupy()
            (rig.folder / "now").write_text("+0d")
            asked = time.monotonic()
            with rig.client() as waits:
                waits.ask("/waits")
                rig.waiting("place")
                (rig.folder / "now").write_text(shift)
                replace(rig.policy, rig.text + f"# {shift}\n")
                require(rig.gateway.admin("/-/reload", "POST")[0] == 200, "the reload was refused")
                waits.answer().problem(503, "queue_timeout")
                waited = time.monotonic() - asked
            require(2.5 < waited < 12, f"after {shift} it waited {waited:.1f} s of 3 s for a place")
            seen[-1] += f" and {waited:.1f} s"
            days = moved(rig)
            require(days == {"+1d": 1, "-1d": -1}[shift], f"the gateway's wall clock moved by {days} days")
            rig.upstream.open()
            for client in running:
                with client:
                    client.answer().ok()
            rig.upstream.shut()
        rig.codes, rig.reasons = {503: 2}, {"queue_timeout": 2}
        rig.settle()
        return "; ".join(seen)


def moved(rig: Rig) -> int:
    """By how many days the clock of the gateway's last line in the log is ahead."""
    line = json.loads(rig.gateway.log.read_text().splitlines()[-1])
    said = datetime.datetime.fromisoformat(line["timestamp"])
    return round((said - datetime.datetime.now(datetime.UTC)).total_seconds() / 86_400)


ROWS = [
    Row("server's name stops resolving", name_stops_resolving),
    Row("resolver falls silent", resolver_falls_silent),
    Row("no file descriptor to spare", no_descriptor_to_spare),
    Row("file descriptors taken away", descriptors_taken_away),
    Row("memory: bodies that are held", held_bodies_are_bounded),
    Row("memory: bodies that are streamed", streamed_bodies_are_not_held),
    Row("log goes to a full device", log_on_a_full_device),
    Row("log goes to a full disk", log_on_a_full_disk),
    Row("log that nobody reads", functools.partial(log_that_nobody_reads, full=False)),
    Row("log that nobody reads, full at the start", functools.partial(log_that_nobody_reads, full=True)),
    Row("log that is read too late", log_that_is_read_too_late),
    Row("log whose reader has gone", log_whose_reader_has_gone),
    Row("clock is set forward and back", clock_is_set),
]
