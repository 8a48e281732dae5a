"""SIGTERM in every phase, with every sort of connection open."""

import contextlib
import functools
import signal
import socket
import threading
import time
import typing

from claims import comes_true, give_it_a_chance, require, soon

from .client import Http1, Http2
from .leaving import SESSION
from .rig import PROMPTLY, Rig
from .table import Row

EVENTS = {"Accept": "text/event-stream"}
# Long enough to be told from prompt, and short for the sake of rows that do not hold.
NOT_PROMPT = "drain_timeout: 6s"
REST = 1.3  # After a second without a request a connection is at rest.


def named(fields: dict) -> dict:
    return {name.replace("-", "_"): value for name, value in fields.items()}


# Requests that run or wait: they are finished, and the exit is clean.


def finishes(binary: str, prepare: typing.Callable, kind: type, limits: str = "queue_timeout: 30s") -> str:
    with Rig(binary, rate="30/min", limits=limits) as rig:
        expected = prepare(rig, kind)
        rig.terminate()
        soon("the listener is closed", lambda: not listens(rig))
        give_it_a_chance()
        require(rig.gateway.process.poll() is None, "it ended, although something runs", rig.gateway.process.returncode)
        rig.upstream.open()
        for client, asked, body, go_on in expected:
            if go_on:
                go_on()
            answer = client.answer() if asked is None else client.answer(asked)
            answer.ok(body) if isinstance(body, bytes) else body(answer)
            if isinstance(client, Http1):
                require(client.is_closed(), "the connection stays open")
        came = rig.ended(0, PROMPTLY)
        rig.settle()
        return f"{len(expected)} answered, {came}"


def listens(rig: Rig) -> bool:
    with contextlib.suppress(OSError):
        Http1(rig.public).leave()
        return True
    return False


def one(rig: Rig, kind: type, target: str, do: str, body: typing.Any = b"ok", **fields: str) -> list:
    client = rig.client(kind)
    asked = client.ask(target, do, **named(fields))
    return [(client, asked if kind is Http2 else None, body, None)]


def waits_for_its_head(rig: Rig, kind: type) -> list:
    found = one(rig, kind, "/runs", "hold")
    rig.begun(1, "/runs")
    return found


def streams(rig: Rig, kind: type) -> list:
    found = one(rig, kind, "/streams", "stream-hold", b"firstlast")
    client, asked = found[0][:2]
    client.until(b"first") if kind is Http1 else client.until_body(asked)
    return found


def waits_for_a_turn(rig: Rig, kind: type) -> list:
    first = one(rig, kind, "/turn/first", "hold", **SESSION)
    rig.begun(1, "/turn/first")
    second = one(rig, kind, "/turn/second", "answer", **SESSION)
    rig.waiting("turn")
    return first + second


def waits_for_a_place(rig: Rig, kind: type) -> list:
    found = [(client, None, b"ok", None) for client in rig.occupy()]
    found += one(rig, kind, "/waits", "answer")
    rig.waiting("place")
    return found


def waits_for_a_rate(rig: Rig, kind: type) -> list:
    with rig.client() as client:
        client.ask("/rate/first").answer().ok()
    found = one(rig, kind, "/rate/waits", "answer")
    rig.waiting("rate")
    return found


def uploads(rig: Rig, kind: type) -> list:
    client, body = rig.client(kind), b"x" * 1000
    asked = client.ask("/uploads", body=body, length=2000)
    rig.begun(1, "/uploads")

    def go_on() -> None:
        if kind is Http1:
            client.raw(body)
        else:
            client.http.send_data(asked, body, end_stream=True)
            client.flush()

    return [(client, asked if kind is Http2 else None, b"ok", go_on)]


def waits_aloud(rig: Rig, kind: type) -> list:
    """Its head is there already, and a comment."""

    def has_events(answer: typing.Any) -> None:
        require(answer.status == 200 and answer.whole, "not whole", answer)
        require(b": waiting" in answer.body and answer.body.endswith(b"firstlast"), "other events", answer)

    first = one(rig, kind, "/aloud/first", "hold", **SESSION)
    rig.begun(1, "/aloud/first")
    second = one(rig, kind, "/aloud/second", "stream-hold", has_events, **SESSION, **EVENTS)
    client, asked = second[0][:2]
    client.until(b": waiting") if kind is Http1 else client.until_body(asked)
    return first + second


def is_joined(rig: Rig, kind: type) -> list:
    first = one(rig, kind, "/join/it", "stream-hold", b"firstlast", **SESSION)
    rig.begun(1, "/join/it")
    second = one(rig, kind, "/join/it", "stream-hold", b"firstlast", **SESSION)
    client, asked = second[0][:2]
    client.until(b"first") if kind is Http1 else client.until_body(asked)
    return first + second


def half_closed_and_runs(rig: Rig, kind: type) -> list:
    found = waits_for_its_head(rig, kind)
    found[0][0].shut()
    return found


def says_goaway_and_runs(rig: Rig, kind: type) -> list:
    found = waits_for_its_head(rig, kind)
    found[0][0].goaway()
    return found


def abandoned_work(binary: str) -> str:
    """Work whose client has left is work."""
    with Rig(binary) as rig:
        client = rig.client().ask("/finish/left", "hold")
        rig.begun(1, "/finish/left")
        client.leave()
        rig.codes = {499: 1}
        rig.counted()
        rig.terminate()
        give_it_a_chance()
        require(rig.gateway.process.poll() is None, "it did not wait for work that goes on")
        rig.upstream.open()
        came = rig.ended(0, PROMPTLY)
        rig.settle()
        return came


def tunnel(binary: str, closes: bool) -> str:
    """An upgraded connection is a request that runs."""
    with Rig(binary, server="drain_timeout: 1500ms") as rig:
        with rig.client() as client:
            client.ask("/tunnel", "echo", Connection="Upgrade", Upgrade="echo")
            answer = client.answer()
            require(answer.status == 101, "no upgrade", answer)
            client.raw(b"hello").until(b"hello")
            rig.terminate()
            client.raw(b"again").until(b"again")
            if closes:
                client.leave()
            came = rig.ended(0 if closes else 3, PROMPTLY)
        rig.settle()
        return came


# What the deadline cuts.


def is_cut(binary: str, kind: type, do: str) -> str:
    with Rig(binary, server="drain_timeout: 500ms") as rig:
        with rig.client(kind) as client:
            asked = client.ask("/runs", do)
            rig.begun(1, "/runs")
            if do == "stream-hold":
                client.until(b"first") if kind is Http1 else client.until_body(asked)
            rig.gateway.signal()
            code = rig.gateway.exit_code(PROMPTLY)
            answer = client.answer() if kind is Http1 else client.answer(asked)
            require(not answer.whole or answer.status in (502, 503, 504), "it looks whole", answer)
        rig.upstream.open()
        came = rig.ended(3)
        require(code == 3, "another exit code", code)
        rig.settle()
        return f"{came}, client got {answer}"


def second_signal(binary: str, number: int) -> str:
    with Rig(binary) as rig:
        with rig.client() as client:
            client.ask("/runs", "hold")
            rig.begun(1, "/runs")
            rig.terminate()
            rig.gateway.signal(number)
            code = rig.gateway.exit_code(PROMPTLY)
            answer = client.answer()
            require(not answer.whole, "it looks whole", answer)
        rig.upstream.open()
        require(code == 130, "another exit code", code)
        rig.ended(130)
        rig.settle()
        return f"exit {code}, client got {answer}"


def stopped_reading(binary: str, wants: int) -> str:
    """A client that takes nothing more. If its answer is cut at the deadline, the exit says so.

    Also where all of the answer has left the upstream, and only the client owes something.
    """

    def large(exchange: typing.Any) -> None:
        exchange.read_body()
        length = int(exchange.do[1])
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * (length - 1))
        exchange.finish(b"x")

    with Rig(binary, {"large": large}, server="drain_timeout: 1500ms") as rig:
        opened = []

        def ask(length: int) -> Http1:
            client = Http1(rig.public, receive_buffer=4096)
            opened.append(client)
            return client.ask("/large", f"large {length}")

        if wants:
            client = ask(wants)
            rig.begun(1, "/large")
            give_it_a_chance()
        else:
            client = largest_that_has_ended(rig, ask)
        rig.gateway.signal()
        began = time.monotonic()
        code = rig.gateway.exit_code(PROMPTLY + 3)
        took = time.monotonic() - began
        answer = client.answer()
        for one_of_them in opened:
            one_of_them.leave()
        rig.upstream.open()
        require(answer.status == 200, "no answer", answer.status)
        ends = "whole" if answer.whole else "cut"
        require(code == (0 if answer.whole else 3), f"exit {code} and an answer that is {ends}")
        rig.ended(code)
        rig.settle()
        return f"exit {code} after {took:.1f} s, the answer {ends}"


def largest_that_has_ended(rig: Rig, ask: typing.Callable) -> Http1:
    """An answer whose end the gateway has taken from the server, and not all of which the client's socket takes."""
    last = None
    for step in range(200):
        client = ask(200_000 + 30_000 * step)
        rig.begun(step + 1, "/large")
        if not comes_true(lambda: rig.gateway.metric("turnwise_in_flight_requests") == 0, 0.5, 0.01):
            client.leave()
            soon("it is let go", lambda: rig.gateway.metric("turnwise_in_flight_requests") == 0)
            require(last is not None, "the first was too large")
            return last
        if last:
            last.leave()
        last = client
    raise AssertionError("sockets take everything")


# Connections on which nothing runs. None of them may hold up the end.


def silent(rig: Rig) -> Http1:
    return rig.client()


def idle(rig: Rig) -> Http1:
    client = rig.client()
    client.ask("/idle").answer().ok()
    return client


def at_rest(rig: Rig) -> Http1:
    client = idle(rig)
    time.sleep(REST)
    return client


def half_closed(rig: Rig) -> Http1:
    return idle(rig).shut()


def half_closed_at_rest(rig: Rig) -> Http1:
    return at_rest(rig).shut()


def with_an_empty_line(rig: Rig) -> Http1:
    return idle(rig).raw(b"\r\n")


def with_an_empty_line_after_a_rest(rig: Rig) -> Http1:
    client = at_rest(rig).raw(b"\r\n")
    time.sleep(REST)
    return client


def with_half_a_head(rig: Rig) -> Http1:
    return rig.client().raw(b"GET / HTTP/1.1\r\nHos")


def with_half_a_second_head(rig: Rig) -> Http1:
    return idle(rig).raw(b"GET / HTTP/1.1\r\nHos")


def with_half_a_head_after_a_rest(rig: Rig) -> Http1:
    return at_rest(rig).raw(b"GET / HTTP/1.1\r\nHos")


def with_half_a_preface(rig: Rig) -> Http1:
    return rig.client().raw(b"PRI * HTTP/2.0\r\n")


def http2_idle(rig: Rig) -> Http2:
    client = rig.client(Http2)
    client.answer(client.ask("/idle")).ok()
    return client


def http2_idle_that_reads(rig: Rig) -> Http2:
    """Its client answers pings, as clients do."""
    client = http2_idle(rig)
    threading.Thread(target=lambda: client.pump(lambda: False, 15), daemon=True).start()
    return client


def http2_without_a_request(rig: Rig) -> Http2:
    return rig.client(Http2)


def http2_half_closed(rig: Rig) -> Http2:
    client = http2_idle(rig)
    client.socket.shutdown(socket.SHUT_WR)
    return client


def http2_with_half_a_frame(rig: Rig) -> Http2:
    client = http2_idle(rig)
    client.socket.sendall(b"\x00\x00\x10\x01")
    return client


def http2_said_goaway(rig: Rig) -> Http2:
    client = http2_idle(rig)
    client.goaway()
    return client


def after_a_refusal(rig: Rig) -> Http1:
    client = rig.client()
    answer = client.raw(b"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n").answer()
    require(answer.status == 400, "no refusal", answer)
    return client


def after_a_refused_upload(rig: Rig) -> Http1:
    """It was told 413, and sends on."""
    client = rig.client().ask("/", body=b"x" * 1000, length=100_000_000)
    answer = client.answer()
    require(answer.status == 413, "no refusal", answer)
    return client


def after_the_head_timeout(rig: Rig) -> Http1:
    client = with_half_a_head(rig)
    answer = client.answer()
    require(answer.status == 408, "no refusal", answer)
    return client


def after_it_left_a_stream(rig: Rig) -> Http2:
    client = rig.client(Http2)
    stream = client.ask("/cancel/it", "notice")
    rig.begun(1, "/cancel/it")
    client.reset_stream(stream)
    soon("nothing runs", lambda: rig.upstream.running == 0)
    return client


def whose_tunnel_has_closed(rig: Rig) -> Http1:
    client = rig.client()
    client.ask("/tunnel", "echo", Connection="Upgrade", Upgrade="echo")
    require(client.answer().status == 101, "no upgrade")
    client.raw(b"hello").until(b"hello").shut()
    soon("the tunnel has ended", lambda: rig.upstream.running == 0)
    return client


NOTHING_RUNS = [
    silent,
    idle,
    at_rest,
    half_closed,
    half_closed_at_rest,
    with_an_empty_line,
    with_an_empty_line_after_a_rest,
    with_half_a_head,
    with_half_a_second_head,
    with_half_a_head_after_a_rest,
    with_half_a_preface,
    http2_idle,
    http2_idle_that_reads,
    http2_without_a_request,
    http2_half_closed,
    http2_with_half_a_frame,
    http2_said_goaway,
    after_a_refusal,
    after_a_refused_upload,
    after_it_left_a_stream,
    whose_tunnel_has_closed,
]


def ends_promptly(binary: str, sorts: list, rounds: int = 1) -> str:
    with Rig(binary, server=NOT_PROMPT) as rig:
        took = []
        for _ in range(rounds):
            clients = [sort(rig) for sort in sorts]
            soon("nothing runs", lambda: rig.gateway.metric("turnwise_in_flight_requests") == 0)
            began = time.monotonic()
            rig.gateway.signal()
            code = rig.gateway.exit_code(40)
            took.append(time.monotonic() - began)
            for client in clients:
                client.leave()
            require(code == 0, "another exit code", code)
            rig.ended(0)
        rig.settle()
        require(max(took) <= PROMPTLY, f"it took {max(took):.1f} s with nothing running")
        return f"exit 0 after at most {max(took):.1f} s"


def by_the_admin_port(binary: str) -> str:
    with Rig(binary) as rig:
        status, _ = rig.gateway.admin("/-/drain", "POST")
        require(200 <= status < 300, "refused", status)
        came = rig.ended(0, PROMPTLY)
        rig.settle()
        return came


def some_end_promptly(binary: str, number: int, pause: float, busy: bool = False, rounds: int = 8) -> str:
    """The threads that serve hear of a drain while they are still being told: a word that gets lost is lost rarely."""
    with Rig(binary, server=NOT_PROMPT) as rig:
        took = []
        for _ in range(rounds):
            clients = [idle(rig) for _ in range(number)]
            time.sleep(pause)
            if busy:
                # They are told twice: that the gateway drains, and that the last request has ended.
                rig.upstream.shut()
                running = rig.occupy(1)[0]
                rig.terminate()
                give_it_a_chance()
                rig.upstream.open()
                running.answer().ok()
                running.leave()
            began = time.monotonic()
            if not busy:
                rig.gateway.signal()
            require(rig.gateway.exit_code(40) == 0, "another exit code")
            took.append(time.monotonic() - began)
            for client in clients:
                require(client.is_closed(), "it stays open")
                client.leave()
            rig.ended(0)
        rig.settle()
        require(max(took) <= PROMPTLY, f"with nothing running the ends took {', '.join(f'{one:.1f}' for one in took)} s")
        return f"exit 0 after at most {max(took):.1f} s"


MIXED = [silent, idle, half_closed, http2_idle_that_reads, after_a_refusal, whose_tunnel_has_closed, half_closed_at_rest, at_rest]


def rows() -> list[Row]:
    found = [("drain asked for by the admin port, idle", by_the_admin_port)]
    for sort in NOTHING_RUNS:
        name = f"drain with a connection {sort.__name__.replace('_', ' ')}"
        found.append((name, functools.partial(ends_promptly, sorts=[sort])))
    for number in (2, 4, 8, 20):
        for pause, state in ((0.0, "are idle"), (REST, "rest")):
            run = functools.partial(some_end_promptly, number=number, pause=pause)
            found.append((f"drain with {number} connections that {state}, eight times", run))
    run = functools.partial(some_end_promptly, number=4, pause=REST, busy=True)
    found.append(("drain with 4 connections that rest behind a request that runs, eight times", run))
    found.append(("drain with many sorts of connections, three times", functools.partial(ends_promptly, sorts=MIXED, rounds=3)))
    both = (waits_for_its_head, streams, waits_for_a_turn, waits_for_a_place, waits_for_a_rate, uploads, waits_aloud, is_joined)
    phases = [(prepare, kind) for kind in (Http1, Http2) for prepare in both]
    for prepare, kind in [*phases, (half_closed_and_runs, Http1), (says_goaway_and_runs, Http2)]:
        name = f"drain while a request {prepare.__name__.replace('_', ' ')}, {kind.name}"
        found.append((name, functools.partial(finishes, prepare=prepare, kind=kind)))
    found.append(("drain while abandoned work goes on", abandoned_work))
    found.append(("drain while a tunnel is open, which is closed then", functools.partial(tunnel, closes=True)))
    found.append(("drain while a tunnel is open, which stays", functools.partial(tunnel, closes=False)))
    for kind in (Http1, Http2):
        for do in ("hold", "stream-hold"):
            found.append((f"drain that takes too long for: {do}, {kind.name}", functools.partial(is_cut, kind=kind, do=do)))
    for wants, where in ((50_000_000, "mid-answer"), (0, "the last octets")):
        found.append((f"drain with a client that stopped reading {where}", functools.partial(stopped_reading, wants=wants)))
    for number in (signal.SIGTERM, signal.SIGINT):
        found.append((f"drain and then {number.name}", functools.partial(second_signal, number=number)))
    return [Row(name, run) for name, run in found]


ROWS = rows()
