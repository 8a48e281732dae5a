"""Servers that refuse, break off, stall, die, and say what nobody should."""

import functools
import signal
import socket
import subprocess
import sys
import time
import typing

from claims import require, soon

from .client import Answer, Http1, Http2
from .rig import Rig
from .table import Row
from .upstream import CHUNKED, OK, Exchange

HEAD = b"HTTP/1.1 200 OK\r\n"
LONG = HEAD + b"Content-Length: 100\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def says(octets: bytes, then: str) -> typing.Callable[[Exchange], None]:
    """Reads the request, says this, and then closes, resets, or stalls until the gate opens."""

    def behave(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.write(octets)
        if then == "stalls":
            exchange.hold()
        elif then == "resets":
            # A reset overtakes what was sent and not read.
            time.sleep(0.1)
            return exchange.reset()
        exchange.close()

    return behave


def without_end(first: bytes, again: bytes) -> typing.Callable[[Exchange], None]:
    def behave(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.write(first)
        for _ in range(1_000_000):
            if not exchange.write(again * 100):
                break
        exchange.close()

    return behave


def ask(rig: Rig, kind: type, target: str = "/broken", **more: typing.Any) -> Answer:
    with rig.client(kind) as client:
        asked = client.ask(target, "broken", b"once", **more)
        return client.answer() if kind is Http1 else client.answer(asked)


def refused(binary: str, kind: type, behave: typing.Callable) -> str:
    """What breaks before a response head is a 502, and is not tried again."""
    with Rig(binary, {"broken": behave}) as rig:
        answer = ask(rig, kind).problem(502, "upstream_broken")
        require(rig.upstream.count("/broken") == 1, "it was sent more than once")
        rig.codes, rig.reasons = {502: 1}, {"upstream_broken": 1}
        rig.settle()
        return f"{answer.status} upstream_broken"


def cut(binary: str, kind: type, behave: typing.Callable, target: str = "/broken") -> str:
    """What breaks after the head is visibly cut."""
    with Rig(binary, {"broken": behave}) as rig:
        answer = ask(rig, kind, target).cut()
        rig.upstream.open()
        rig.settle()
        return f"{answer}"


def late(binary: str, kind: type, behave: typing.Callable) -> str:
    """No head in time is a 504; the work is abandoned, and has its limit."""
    with Rig(binary, {"broken": behave}) as rig:
        answer = ask(rig, kind, "/hurried").problem(504, "upstream_timeout")
        soon("it is cut at the limit", lambda: rig.gateway.metric("turnwise_abandoned_total", result="cut") == 1)
        rig.upstream.open()
        rig.codes, rig.reasons = {504: 1}, {"upstream_timeout": 1}
        rig.settle()
        return f"{answer.status} upstream_timeout"


def passes(binary: str, kind: type, behave: typing.Callable, body: bytes, interim: int | None = None) -> str:
    """What is odd and clear all the same goes through, and is not taken for the next answer."""
    with Rig(binary, {"broken": behave}) as rig:
        answer = ask(rig, kind).ok(body)
        if interim is not None and kind is Http1:
            require(0 < answer.interim <= interim, "none, or more interim responses than were sent", answer.interim)
        for _ in range(4):
            ask(rig, kind).ok(body)
        rig.settle()
        return f"{answer}" + (f" after {answer.interim} interim" if answer.interim else "")


def not_listening(binary: str, kind: type) -> str:
    with Rig(binary) as rig:
        rig.upstream.stop_listening()
        answer = ask(rig, kind).problem(502, "upstream_connect")
        require("connection_refused" in answer.field("proxy-status"), "another error", answer.fields)
        rig.upstream.listen()
        rig.codes, rig.reasons = {502: 1}, {"upstream_connect": 1}
        rig.settle()
        return f"{answer.status} upstream_connect"


def deaf_to_connections(binary: str, kind: type) -> str:
    """The backlog is full: the system drops what tries to connect."""
    with Rig(binary, upstream="connect_timeout: 300ms") as rig:
        rig.upstream.stop_listening()
        full = socket.socket()
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(rig.upstream.bound)
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(rig.upstream.bound)
            fillers.append(filler)
        answer = ask(rig, kind).problem(504, "upstream_timeout")
        for one in (*fillers, full):
            one.close()
        rig.upstream.listen()
        rig.codes, rig.reasons = {504: 1}, {"upstream_timeout": 1}
        rig.settle()
        return f"{answer.status} upstream_timeout"


MORTAL = """\
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf")
connection.recv(1)
"""


def killed(binary: str, kind: type) -> str:
    """The server is a process of its own, and gets a SIGKILL."""
    with Rig(binary) as rig:
        rig.upstream.stop_listening()
        command = [sys.executable, "-c", MORTAL, str(rig.upstream.bound[1])]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            require(server.stdout.readline() == "listening\n", "the server did not start")
            with rig.client(kind) as client:
                asked = client.ask("/broken", body=b"once")
                if kind is Http1:
                    client.until(b"half")
                else:
                    client.until_body(asked)
                server.send_signal(signal.SIGKILL)
                server.wait(10)
                answer = (client.answer() if kind is Http1 else client.answer(asked)).cut()
                rig.codes, rig.reasons = {502: 1}, {"upstream_connect": 1}
            ask(rig, kind).problem(502, "upstream_connect")
        finally:
            server.kill()
            server.wait(10)
            server.stdout.close()
        rig.upstream.listen()
        rig.settle()
        return f"{answer}, then 502 upstream_connect until it is back"


def closes_after_each(binary: str, pause: float) -> str:
    """A server that keeps no connection and does not say so. What was sent may have been processed: never sent again."""

    def behave(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.finish()
        time.sleep(pause)
        exchange.close()

    with Rig(binary, {"broken": behave}) as rig:
        lost = 0
        with rig.client() as client:
            for number in range(60):
                body = b"once" if number % 2 else None
                answer = client.ask(f"/broken/{number}.", "broken", body).answer()
                if answer.status == 502:
                    # It closed in the moment in which the request came, and may have processed it.
                    answer.problem(502, "upstream_broken")
                    lost += 1
                else:
                    answer.ok()
        more = [number for number in range(60) if rig.upstream.count(f"/broken/{number}.") > 1]
        require(not more, "sent more than once", more)
        if lost:
            rig.codes, rig.reasons = {502: lost}, {"upstream_broken": lost}
        rig.settle()
        return f"60 requests, {lost} closed in the moment, none twice"


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: agents\r\n\r\n"


def answers_early(binary: str, kind: type, keeps: bool) -> str:
    """The answer comes amid the upload. The rest of it is nobody's request."""

    def behave(exchange: Exchange) -> None:
        exchange.finish(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        if not keeps:
            # To close with unread octets would be a reset, which destroys the answer.
            exchange.connection.shutdown(socket.SHUT_WR)
            while exchange.connection.recv(65536):
                pass
            exchange.close()
        exchange.rest = b""

    body = SMUGGLED * 100
    with Rig(binary, {"broken": behave}) as rig:
        with rig.client(kind) as client:
            asked = client.ask("/broken", "broken", body, length=len(body) * 50)
            answer = client.answer() if kind is Http1 else client.answer(asked)
            require(answer.status == 413 and answer.whole and answer.body == b"large", "another answer", answer)
            try:
                for _ in range(49):
                    client.raw(body) if kind is Http1 else client.http.send_data(asked, body[:1000])
            except Exception:
                pass  # The gateway may well have closed by now.
        rig.codes = {413: 1}
        rig.settle()
        require(rig.upstream.count("/smuggled") == 0, "the rest of the upload was taken for a request")
        return "413, whole, and nothing smuggled"


BEFORE_THE_HEAD = {
    "resets before the head": says(b"", "resets"),
    "closes before the head": says(b"", "closes"),
    "resets in the head": says(HEAD + b"Content-", "resets"),
    "closes in the head": says(HEAD + b"Content-", "closes"),
    "says nonsense": says(b"220 mail.example ESMTP\r\n\r\n", "closes"),
    "says binary nonsense": says(bytes(range(256)) * 8, "closes"),
    "speaks HTTP/2 unasked": says(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "closes"),
    "has two different lengths": says(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nfirst!", "closes"),
    "has a length that is none": says(HEAD + b"Content-Length: -5\r\n\r\nfirst", "closes"),
    "has a head that is too large": says(HEAD + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n", "closes"),
    "has a head without end": without_end(HEAD, b"X-Field: " + b"y" * 100 + b"\r\n"),
    "sends interim responses without end": without_end(b"", EARLY_HINTS),
    "switches unasked": says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", "closes"),
}
AFTER_THE_HEAD = {
    "resets after the head": says(LONG, "resets"),
    "resets mid-body, length": says(LONG + b"half", "resets"),
    "resets mid-body, chunks": says(CHUNKED + b"5\r\nfirst\r\n", "resets"),
    "closes mid-body, length (too long)": says(LONG + b"half", "closes"),
    "closes mid-body, chunks": says(CHUNKED + b"5\r\nfirst\r\n", "closes"),
    "closes in a chunk": says(CHUNKED + b"50\r\nfirst", "closes"),
    "says a chunk that is none": says(CHUNKED + b"5\r\nfirst\r\nxyz\r\n", "closes"),
}
STALLS = {
    "stalls before the head": says(b"", "stalls"),
    "stalls in the head": says(HEAD + b"Content-", "stalls"),
}


def answers(octets: bytes) -> typing.Callable[[Exchange], None]:
    def behave(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.finish(octets)

    return behave


def rows() -> list[Row]:
    found = []
    for kind in (Http1, Http2):

        def add(name: str, run: typing.Callable, **more: typing.Any) -> None:
            found.append((f"server {name}, {kind.name}", functools.partial(run, kind=kind, **more)))

        add("refuses connections", not_listening)
        add("drops connections", deaf_to_connections)
        for name, behave in BEFORE_THE_HEAD.items():
            add(name, refused, behave=behave)
        for name, behave in STALLS.items():
            add(name, late, behave=behave)
        for name, behave in AFTER_THE_HEAD.items():
            add(name, cut, behave=behave)
        add("stalls mid-body, length", cut, behave=says(LONG + b"half", "stalls"), target="/hurried")
        add("stalls mid-body, chunks", cut, behave=says(CHUNKED + b"5\r\nfirst\r\n", "stalls"), target="/hurried")
        add("is killed mid-body", killed)
        add("has a length that is too short", passes, behave=answers(OK + b"and more"), body=b"ok")
        add("sends 300 interim responses", passes, behave=answers(EARLY_HINTS * 300 + OK), body=b"ok", interim=300)
        add("answers amid the upload and keeps the connection", answers_early, keeps=True)
        add("answers amid the upload and closes", answers_early, keeps=False)
    found.append(("server closes right after each answer", functools.partial(closes_after_each, pause=0)))
    found.append(("server closes a moment after each answer", functools.partial(closes_after_each, pause=0.001)))
    return [Row(name, run) for name, run in found]


ROWS = rows()
