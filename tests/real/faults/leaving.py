"""Clients that leave, break off or half close, in every phase of a request."""

import functools
import threading
import time
import typing

from claims import Failed, give_it_a_chance, require, soon

from .client import Answer, Http1, Http2
from .rig import LIMIT, Rig
from .table import Row

SESSION = {"X-Session-Id": "a"}
UPLOAD = 100_000


class Phase(typing.NamedTuple):
    """How far the request has come. `reach` brings it there and says what `arrive` needs to let it go on."""

    name: str
    target: str
    do: str
    # Brings a client's request to this phase.
    reach: typing.Callable
    # What the answer says if the client stays.
    body: bytes = b"ok"
    upload: bool = False


def in_line_for_a_turn(rig: Rig, ask: typing.Callable) -> list[Http1]:
    first = rig.client().ask("/turn/first", "hold", **SESSION)
    rig.begun(1, "/turn/first")
    ask(**SESSION)
    rig.waiting("turn")
    return [first]


def in_line_for_a_place(rig: Rig, ask: typing.Callable) -> list[Http1]:
    first = rig.occupy()
    ask()
    rig.waiting("place")
    return first


def in_line_for_a_rate(rig: Rig, ask: typing.Callable) -> list[Http1]:
    """The first of a second's tokens is taken."""
    with rig.client() as client:
        client.ask("/rate/first").answer().ok()
    ask()
    rig.waiting("rate")
    return []


def at_the_upstream(rig: Rig, ask: typing.Callable) -> list[Http1]:
    ask()
    rig.begun(1, "/phase")
    return []


def read_for_its_key(rig: Rig, ask: typing.Callable) -> list[Http1]:
    """The key stands in the body, which is read whole first."""
    ask()
    soon("a body is held", lambda: rig.gateway.metric("turnwise_queue_bytes") >= 1000)
    return []


PHASES = [
    Phase("queued for a turn", "/turn/phase", "answer", in_line_for_a_turn),
    Phase("queued for a place", "/phase", "answer", in_line_for_a_place),
    Phase("queued for a rate", "/rate/phase", "answer", in_line_for_a_rate),
    Phase("mid-upload", "/phase", "answer", at_the_upstream, upload=True),
    Phase("mid-upload of its key", "/json/phase", "answer", read_for_its_key, upload=True),
    Phase("while it runs", "/phase", "hold", at_the_upstream),
    Phase("mid-stream", "/phase", "stream-hold", at_the_upstream, b"firstlast"),
]


class Asked:
    """One request of a client of either version, in its phase."""

    def __init__(self, rig: Rig, kind: type, phase: Phase):
        self.client = rig.client(kind)
        self.phase = phase
        self.stream = None
        self.others = phase.reach(rig, self._ask)
        if phase.do == "stream-hold":
            self.client.until(b"first") if kind is Http1 else self.client.until_body(self.stream)

    def _ask(self, **fields: str) -> None:
        fields = {name.replace("-", "_"): value for name, value in fields.items()}
        upload = {"body": b"x" * 1000, "length": UPLOAD} if self.phase.upload else {}
        self.stream = self.client.ask(self.phase.target, self.phase.do, **upload, **fields)

    def answer(self) -> Answer:
        return self.client.answer() if isinstance(self.client, Http1) else self.client.answer(self.stream)


def let_go(rig: Rig, asked: Asked) -> None:
    rig.upstream.open()
    for client in asked.others:
        with client:
            client.answer().ok()


def goes(binary: str, kind: type, phase: Phase, way: str) -> str:
    """A client that has gone counts as 499. If it waited, the upstream never hears of it."""
    with Rig(binary, rate="10/h") as rig:
        asked = Asked(rig, kind, phase)
        if way == "resets its stream":
            asked.client.reset_stream(asked.stream)
        else:
            {"leaves": asked.client.leave, "resets": asked.client.reset}[way]()
        # Before anything at the upstream goes on: it is noticed at once.
        rig.codes = {499: 1}
        if phase.upload and kind is Http1 and way == "leaves":
            # At the end of what it sends, nobody can tell it from one that half closes, and gets a 400.
            soon("it is counted", lambda: set(rig.gateway.by("turnwise_requests_total", "code")) & {"400", "499"})
            if rig.gateway.metric("turnwise_requests_total", code="400"):
                rig.codes, rig.reasons = {400: 1}, {"bad_request": 1}
        rig.counted()
        reached = rig.upstream.count("/phase")
        let_go(rig, asked)
        asked.client.leave()
        require(reached == (phase.reach is at_the_upstream), f"it reached the upstream {reached} times")
        rig.settle()
        require(rig.upstream.count("/phase") == reached, "it reached the upstream later")
        return f"{next(iter(rig.codes))}, at the upstream {reached}"


def stays(binary: str, kind: type, phase: Phase, way: str) -> str:
    """A client that only says that it will send no more gets its answer."""
    with Rig(binary, rate="30/min") as rig:
        asked = Asked(rig, kind, phase)
        {"half closes": getattr(asked.client, "shut", None), "says GOAWAY": getattr(asked.client, "goaway", None)}[way]()
        give_it_a_chance()
        let_go(rig, asked)
        asked.answer().ok(phase.body)
        if kind is Http1:
            require(asked.client.is_closed(), "its connection stays open")
        asked.client.leave()
        rig.settle()
        require(rig.upstream.count("/phase") == 1, "not once at the upstream")
        return "200, whole"


def half_closes_amid_its_upload(binary: str, phase: Phase) -> str:
    """A body that ends before its length is a client's fault: no 502, and no request at the upstream that looks whole."""
    with Rig(binary) as rig:
        asked = Asked(rig, Http1, phase)
        asked.client.shut()
        answer = asked.answer()
        whole = [exchange.target for exchange in rig.upstream.seen if "/phase" in exchange.target and exchange.body_is_whole]
        require(not whole, "the upstream got a whole body", whole)
        # It may be one that only writes no more, and is answered; mostly it is one that has gone, and counts as that.
        if answer.status is not None:
            answer.problem(400, "bad_request")
        rig.codes = {499: 1}
        asked.client.leave()
        rig.settle()
        errors = rig.gateway.metric("turnwise_upstream_errors_total")
        require(errors == 0, "it counts against the server")
        return f"{answer}"


# Waves: more clients leave than may run.

WAVE = 10


def wave(rig: Rig, target: str, do: str, leave: typing.Callable, body: bool = False) -> None:
    """Ten ask, two at a time, and leave as soon as the upstream works for them."""
    problems = []

    def one(number: int) -> None:
        try:
            client = rig.client()
            upload = {"body": b"x" * 10, "length": UPLOAD} if body else {}
            client.ask(f"{target}/{number}.", do, **upload)
            rig.begun(1, f"{target}/{number}.")
            if do.startswith("stream"):
                client.until(b"first")
            leave(client)
        except Failed as failed:
            problems.append(failed)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(WAVE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not problems, "a client was not served", *problems)


def waves(binary: str, route: str, do: str, way: str, keeps: bool, body: bool = False, result: str = "finished") -> str:
    with Rig(binary) as rig:
        wave(rig, route, do, Http1.leave if way == "leave" else Http1.reset, body)
        soon("the upstream is idle", lambda: rig.upstream.running == 0)
        peak = rig.upstream.peak
        require(peak == LIMIT or not keeps, f"{peak} ran at once, not {LIMIT}")
        rig.codes = {499: WAVE}
        rig.settle()
        results = dict(rig.gateway.by("turnwise_abandoned_total", "result"))
        require(results == ({result: WAVE} if result else results), "counted otherwise", results)
        return f"{peak} at once, {results}"


def goaway_and_streams(binary: str) -> str:
    """Ten streams of one connection, all of them given up with it."""
    with Rig(binary) as rig:
        client = rig.client(Http2)
        for number in range(10):
            client.ask(f"/finish/{number}", "work 1")
        rig.begun(LIMIT, "/finish")
        rig.waiting("place", 8)
        client.goaway()
        client.reset()
        rig.codes = {499: 10}
        rig.settle()
        return f"{rig.upstream.count('/finish')} of 10 begun, all 499"


def waves_of_uploads(binary: str) -> str:
    """The upstream works from the head on, and does not read on to notice that the rest never comes."""

    def works(exchange: typing.Any) -> None:
        time.sleep(0.2)
        exchange.do_hold_unread()

    with Rig(binary, {"work-unread": works}) as rig:
        rig.upstream.open()
        wave(rig, "/finish", "work-unread", Http1.leave, body=True)
        soon("the upstream is idle", lambda: rig.upstream.running == 0)
        peak = rig.upstream.peak
        require(peak == LIMIT, f"{peak} ran at once, not {LIMIT}")
        # See `goes`.
        soon("all are counted", lambda: sum(rig.gateway.by("turnwise_requests_total", "code").values()) == WAVE + 1)
        codes = rig.gateway.by("turnwise_requests_total", "code")
        rig.codes = {code: codes[str(code)] for code in (400, 499) if codes[str(code)]}
        rig.reasons = {"bad_request": rig.codes[400]} if 400 in rig.codes else {}
        rig.settle()
        return f"{peak} at once, {rig.codes}"


def rows() -> list[Row]:
    found = []
    for phase in PHASES:
        for way in ("leaves", "resets"):
            found.append((f"client {way} {phase.name}, HTTP/1", functools.partial(goes, kind=Http1, phase=phase, way=way)))
        for way in ("resets its stream", "leaves", "resets"):
            found.append((f"client {way} {phase.name}, HTTP/2", functools.partial(goes, kind=Http2, phase=phase, way=way)))
        if phase.upload:
            run = functools.partial(half_closes_amid_its_upload, phase=phase)
            found.append((f"client half closes {phase.name}, HTTP/1", run))
            continue
        for kind, way in ((Http1, "half closes"), (Http2, "says GOAWAY")):
            found.append((f"client {way} {phase.name}, {kind.name}", functools.partial(stays, kind=kind, phase=phase, way=way)))
    for way in ("leave", "reset"):
        for route in ("/finish", "/auto"):
            run = functools.partial(waves, route=route, do="work 0.2", way=way, keeps=True)
            found.append((f"ten {way} while theirs run, abandoned: {route[1:]}, deaf upstream", run))
        run = functools.partial(waves, route="/finish", do="stream-work 0.2", way=way, keeps=True)
        found.append((f"ten {way} mid-stream, abandoned: finish, deaf upstream", run))
    found.append(("ten leave mid-upload, abandoned: finish, upstream that works at once", waves_of_uploads))
    run = functools.partial(waves, route="/auto", do="stream-work 0.2", way="leave", keeps=False, result="cancelled")
    found.append(("ten leave mid-stream, abandoned: auto, deaf upstream", run))
    run = functools.partial(waves, route="/cancel", do="work 0.2", way="leave", keeps=False, result="cancelled")
    found.append(("ten leave while theirs run, abandoned: cancel, deaf upstream", run))
    run = functools.partial(waves, route="/cancel", do="notice", way="leave", keeps=False, result="cancelled")
    found.append(("ten leave while theirs run, abandoned: cancel, upstream that notices", run))
    found.append(("a connection with ten streams is given up, HTTP/2", goaway_and_streams))
    return [Row(name, run) for name, run in found]


ROWS = rows()
