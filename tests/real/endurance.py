"""Mixed load for an hour, and things that go wrong all the while, against the real binary.

One gateway with a rich policy stands before two agents, which are processes of their own. Clients of many kinds talk through
it: conversations of numbered turns (over one connection, over HTTP/2, over several), streams, uploads, equal requests in
pairs, slow readers, clients that leave at every stage, garbage. Meanwhile agents are killed, stopped and restarted, policies
and certificates replaced, sessions ended, connections opened by the hundred.

The judges are what the agents wrote down of every turn that they executed, and what the clients saw. No two turns of a
session overlap; they run in the order of sending, where that is beyond doubt; nothing runs twice; no more runs at once than
the policy allows; every client that stayed gets one whole answer with its own bytes, or a refusal that the policy and the
disturbances of that moment explain; what was cut is visibly cut. In calm moments, and at the end, everything that the gateway
holds must have gone back.

    python tests/real/endurance.py --gateway target/release/turnwise --minutes 60 [--seed N] [--folder DIR]

Writes samples.csv, violations.jsonl, summary.json and the gateway's log to the folder. Exit code 1 when something did not
hold. Needs `openssl`. It takes what it needs of two processors for its time: about half of one.
"""

import argparse
import asyncio
import collections
import contextlib
import hashlib
import heapq
import json
import os
import pathlib
import random
import re
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import typing

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from claims import Failed, soon_beside
from metrics import Sample, restless, samples, total
from processes import Watched, address_apart, free_address, listens

now = time.monotonic
# No client waits longer than this; all the limits of the policy together are shorter.
PATIENCE = 110
# Conditions are waited for, and machines may be slow.
SOON = 30
# What the agents wrote down is judged when it is so old: one of them may have been stopped between looking at the clock and
# writing.
HORIZON = 15
# An agent that is busy notices a closed connection so much later, at most.
NOTICES = 2.0
# So long after a disturbance its consequences are still excused.
AFTERMATH = 20
# Turns that were sent so far apart on different connections must run in that order. The gateway's threads may be kept from the
# processor for a while, so less is told and not judged. (Where the gateway was seen to know of the one before the other was
# sent, and on one connection, there is no doubt.)
BEYOND_DOUBT = 4.0
# A client does not use a connection again that the gateway may be about to close.
RESTS_AT_MOST = 20
# Where this process was kept from the processor, it may use one all the same. So long after a connection's last use, or after
# it was opened, the gateway may close it in the moment in which a request is sent: that is told, and not judged.
MAY_BE_CLOSED, MAY_BE_CLOSED_UNUSED = 25, 8


class Gone(Exception):
    """The other side closed or reset its connection."""


# A connection, for agents and clients alike.


class Link(asyncio.Protocol):
    """Octets that came, and word of the end."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.closed = False
        self.lost: asyncio.Future = asyncio.get_running_loop().create_future()
        self.transport: typing.Any = None
        self.news: asyncio.Future | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.number = 0
        self.secure = False
        # When it was used last, or opened; whether it was not used before.
        self.used, self.fresh = now(), True

    def connection_made(self, transport: typing.Any) -> None:
        self.transport = transport
        opened = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._tell()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _end(self) -> None:
        self.closed = True
        self.writable.set()
        if not self.lost.done():
            self.lost.set_result(None)
        self._tell()

    def _tell(self) -> None:
        if self.news and not self.news.done():
            self.news.set_result(None)

    async def more(self) -> None:
        """Waits for octets beyond those in the buffer."""
        if self.closed:
            raise Gone
        had = len(self.buffer)
        self.news = asyncio.get_running_loop().create_future()
        await self.news
        if len(self.buffer) == had:
            raise Gone

    async def until(self, end: bytes) -> bytes:
        while (at := self.buffer.find(end)) < 0:
            await self.more()
        piece = bytes(self.buffer[:at])
        del self.buffer[: at + len(end)]
        return piece

    async def exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            await self.more()
        piece = bytes(self.buffer[:length])
        del self.buffer[:length]
        return piece

    async def write(self, octets: bytes) -> None:
        if self.closed:
            raise Gone
        self.transport.write(octets)
        await self.writable.wait()

    async def lost_within(self, seconds: float) -> bool:
        await asyncio.wait({self.lost}, timeout=seconds)
        await self.catch_up()
        return self.closed

    @staticmethod
    async def catch_up() -> None:
        """A process that was stopped finds its clocks run out before it finds its connections closed."""
        for _ in range(2):
            await asyncio.sleep(0)

    def close(self) -> None:
        if self.transport:
            self.transport.close()

    def reset(self) -> None:
        if opened := self.transport.get_extra_info("socket"):
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def leave(self, way: str) -> None:
        if way == "reset":
            self.reset()
        else:
            # Not `close`, which under TLS waits for the other side.
            self.transport.abort()


def fields_of(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return first, fields


def filled(token: str, length: int) -> bytes:
    """A body of this length that is this token's alone."""
    unit = token.encode() + b"\n"
    return (unit * (length // len(unit) + 1))[:length]


def answer_of(do: str, token: str, body: bytes = b"") -> bytes:
    """What an agent answers, and a client must get."""
    verb, *numbers = do.split()
    if verb in ("stream", "cut"):
        events = [f"data: {token} {i}\n\n" for i in range(int(numbers[0]))]
        return "".join([*events, f"data: {token} end\n\n"]).encode()
    if verb == "big":
        return filled(token, int(numbers[0]))
    if verb == "upload":
        return json.dumps({"token": token, "length": len(body), "sha256": hashlib.sha256(body).hexdigest()}).encode()
    return json.dumps({"token": token}).encode()


# The agent: a process of its own, which writes down what it executes.


class Agent:
    """Serves until its parent ends."""

    def __init__(self, record: str):
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.count = 0

    def note(self, *what: typing.Any) -> None:
        # At once, so that nothing is lost when this process is killed.
        os.write(self.record, (json.dumps(what) + "\n").encode())

    async def serve(self, host: str, port: int) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Served(self), host, port, backlog=1024)
        parent = os.getppid()
        async with server:
            while os.getppid() == parent:
                await asyncio.sleep(1)


class Served(Link):
    """A connection to an agent."""

    def __init__(self, agent: Agent):
        super().__init__()
        self.agent = agent

    def connection_made(self, transport: typing.Any) -> None:
        super().connection_made(transport)
        self.task = asyncio.get_running_loop().create_task(self.converse())

    async def converse(self) -> None:
        with contextlib.suppress(Gone):
            while True:
                line, fields = fields_of(await self.until(b"\r\n\r\n"))
                if not await self.execute(line.split(" ")[1], fields):
                    break
        self.close()

    async def execute(self, target: str, fields: dict[str, str]) -> bool:
        # A process that was stopped finds requests whose client is gone already. These it does not begin.
        await self.catch_up()
        if self.closed:
            self.agent.note("stale", fields.get("x-token", "?"), now())
            raise Gone
        quiet = target.startswith(("/health", "/quiet"))
        self.agent.count += 1
        number = self.agent.count
        token = fields.get("x-token", "?")
        if not quiet:
            self.agent.note("begin", number, now(), target.split("?")[0], fields.get("x-lane", ""), token)
        ended = False

        def end(how: str) -> None:
            nonlocal ended
            if not ended and not quiet:
                self.agent.note("end", number, now(), how)
            ended = True

        try:
            return await self.perform(fields, token, end)
        except Gone:
            end("gone")
            raise

    async def body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding", "").lower() != "chunked":
            return await self.exactly(int(fields.get("content-length", 0)))
        body = b""
        while size := int(await self.until(b"\r\n"), 16):
            body += await self.exactly(size)
            await self.exactly(2)
        while await self.until(b"\r\n"):
            pass
        return body

    async def perform(self, fields: dict[str, str], token: str, end: typing.Callable[[str], None]) -> bool:
        do = fields.get("x-do", "work 0")
        verb, *words = do.split()
        body = await self.body(fields)
        if verb == "break":
            end("broken")
            return False
        if verb in ("stream", "cut"):
            await self.stream(do, token, end)
            return verb == "stream"
        if verb == "hold":
            deadline = now() + 60
            while now() < deadline and not os.path.exists(words[0]):
                if await self.lost_within(0.05):
                    raise Gone
        elif words and verb == "work" and await self.lost_within(int(words[0]) / 1000):
            raise Gone
        answer = answer_of(do, token, body)
        await self.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer))
        for start in range(0, len(answer) - 65536, 65536):
            await self.write(answer[start : start + 65536])
        end("whole")
        await self.write(answer[max(0, (len(answer) - 1) // 65536) * 65536 :] if len(answer) > 65536 else answer)
        return True

    async def stream(self, do: str, token: str, end: typing.Callable[[str], None]) -> None:
        verb, _, pause = do.split()
        *events, last = (event + b"\n\n" for event in answer_of(do, token).split(b"\n\n")[:-1])
        await self.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in events:
            await self.write(b"%x\r\n%b\r\n" % (len(event), event))
            if await self.lost_within(int(pause) / 1000):
                raise Gone
        if verb == "cut":
            end("cut")
            return
        end("whole")
        await self.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))


def probe(gateway: str, direct: str) -> None:
    """A process that asks a quiet route, through the gateway and past it, and prints how long either took."""
    links: dict[str, socket.socket] = {}
    parent = os.getppid()
    while os.getppid() == parent:
        took = []
        for address in (gateway, direct):
            try:
                if address not in links:
                    host, port = address.rsplit(":", 1)
                    links[address] = socket.create_connection((host, int(port)), timeout=PATIENCE)
                    links[address].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                began = now()
                links[address].sendall(b"GET /quiet HTTP/1.1\r\nHost: quiet\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    piece = links[address].recv(65536)
                    if not piece:
                        raise OSError("closed")
                    answer += piece
                took.append(now() - began if answer.startswith(b"HTTP/1.1 200 ") else None)
            except OSError:
                links.pop(address, None)
                took.append(None)
        print(json.dumps([now(), *took]), flush=True)
        time.sleep(0.2)


# What was asked for, and what came.


class Request:
    """One request of a client, and what became of it."""

    __slots__ = (
        "kind", "token", "secure", "path", "lane", "do", "fields", "body", "expected", "link", "sent", "left", "how_left", "done",
        "status", "reason", "end", "numbered", "twin", "tenant", "rested", "fresh",
    )  # fmt: skip

    def __init__(self, kind: str, path: str, do: str, lane: str = "", body: bytes = b"", token: str = "", tenant: str = ""):
        self.kind, self.path, self.do, self.lane, self.body = kind, path, do, lane, body
        self.token = token or f"{random.getrandbits(64):016x}"
        self.twin = bool(token)
        self.tenant = tenant
        self.expected: bytes | None = answer_of(do, self.token, body)
        self.fields: dict[str, str] = {}
        self.link = 0
        self.secure = self.fresh = False
        self.sent = self.left = self.done = self.rested = 0.0
        self.how_left = ""
        self.status = 0
        self.reason = self.end = ""
        self.numbered = False

    def all_fields(self) -> dict[str, str]:
        fields = {"X-Token": self.token, "X-Do": self.do}
        if not self.twin:
            fields["X-Request-Id"] = self.token
        if self.lane:
            fields["X-Session-Id"] = fields["X-Lane"] = self.lane
        if self.tenant:
            fields["X-Api-Key"] = self.tenant
        return fields | self.fields

    def head(self, framing: str | None = None) -> bytes:
        fields = {"Host": "endurance", **self.all_fields()}
        if framing is None and self.body:
            framing = f"Content-Length: {len(self.body)}"
        lines = [f"{'POST' if self.body else 'GET'} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, *([framing] if framing else []), "", ""]).encode()

    def told(self) -> dict:
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("body", "expected")}


class Answer(typing.NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes
    # whole, cut, or none: not even a head.
    end: str


async def read_answer(link: Link, slowly: float = 0, stop_after: int | None = None) -> Answer:
    """Of HTTP/1. `slowly`: a pause for every 64 KiB. `stop_after`: so many octets of a body are enough."""
    body = bytearray()
    status, fields = 0, {}
    try:
        while status < 200:
            line, fields = fields_of(await link.until(b"\r\n\r\n"))
            status = int(line.split(" ")[1])
        if fields.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await link.until(b"\r\n"), 16):
                while len(link.buffer) < size + 2:
                    await link.more()
                body += await link.exactly(size)
                await link.exactly(2)
                if stop_after is not None and len(body) >= stop_after:
                    return Answer(status, fields, bytes(body), "enough")
            while await link.until(b"\r\n"):
                pass
        else:
            length = int(fields["content-length"])
            while len(body) < length:
                if not link.buffer:
                    await link.more()
                piece = await link.exactly(min(len(link.buffer), length - len(body), 65536))
                body += piece
                if stop_after is not None and len(body) >= stop_after:
                    return Answer(status, fields, bytes(body), "enough")
                if slowly:
                    link.transport.pause_reading()
                    await asyncio.sleep(slowly)
                    with contextlib.suppress(RuntimeError):
                        link.transport.resume_reading()
        return Answer(status, fields, bytes(body), "whole")
    except Gone:
        if status >= 200:
            # Of a chunk that came in part, what came counts.
            return Answer(status, fields, bytes(body), "cut")
        return Answer(0, {}, bytes(link.buffer), "none")


class Stream:
    """One exchange of HTTP/2."""

    def __init__(self) -> None:
        self.status, self.fields, self.body = 0, {}, bytearray()
        self.end = ""
        self.over: asyncio.Future = asyncio.get_running_loop().create_future()

    def finish(self, end: str) -> None:
        if not self.over.done():
            self.end = end
            self.over.set_result(None)


class Link2(Link):
    """A connection of HTTP/2."""

    def connection_made(self, transport: typing.Any) -> None:
        super().connection_made(transport)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.going_away = False
        self.flush()

    def flush(self) -> None:
        if octets := self.h2.data_to_send():
            self.transport.write(octets)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.transport.abort()
            return
        for event in events:
            self._event(event)
        self.flush()

    def _event(self, event: typing.Any) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.going_away = True
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.fields = dict(event.headers)
            stream.status = int(stream.fields[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            stream.finish("whole")
        elif isinstance(event, h2.events.StreamReset):
            stream.finish("cut" if stream.status else "none")

    def _end(self) -> None:
        super()._end()
        for stream in self.streams.values():
            stream.finish("cut" if stream.status else "none")

    def begin(self, request: Request) -> int:
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        fields = [(":method", "POST" if request.body else "GET"), (":scheme", "https" if self.secure else "http")]
        fields += [(":authority", "endurance"), (":path", request.path)]
        fields += [(name.lower(), value) for name, value in request.all_fields().items()]
        self.h2.send_headers(number, fields, end_stream=not request.body)
        if request.body:
            self.h2.send_data(number, request.body, end_stream=True)
        self.flush()
        if self.closed:
            # It ended while this process was kept from the processor, and nothing more will come to say so.
            self.streams[number].finish("none")
        return number

    async def answer(self, number: int) -> Answer:
        stream = self.streams[number]
        await stream.over
        self.streams.pop(number, None)
        return Answer(stream.status, stream.fields, bytes(stream.body), stream.end)

    def cancel(self, number: int) -> None:
        self.streams.pop(number, None)
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            self.flush()


# The judge.


class Execution(typing.NamedTuple):
    token: str
    path: str
    lane: str
    start: float
    end: float
    how: str
    agent: str
    pid: int


class Lane:
    """What ran so far in one session."""

    def __init__(self) -> None:
        self.last: Execution | None = None
        self.gone: Execution | None = None
        # The latest sending among those that have run: on all connections, and on each of the latest few.
        self.latest: Request | None = None
        self.of_link: collections.OrderedDict[int, Request] = collections.OrderedDict()


# Reasons of refusals, with their status. What is not here must not come at all.
ALWAYS = {"queue_full": 503, "queue_timeout": 503}
DISTURBED = {"upstream_unavailable": 503, "upstream_connect": 502, "upstream_broken": 502, "upstream_timeout": 504}
OF_SESSIONS = {"session_queue_full": 429, "session_queue_timeout": 429}
ENDED = {"interrupted": 409}
REASONS: dict[str, dict[str, int]] = {
    "metered": {"rate_limited": 429},
    "strict": {"rate_limited": 429},
    "busy": OF_SESSIONS | {"session_busy": 409, "interrupted": 409},
}
# Their requests had reached an agent, or may have.
MAY_HAVE_RUN = ("upstream_broken", "upstream_timeout", "interrupted", "request_timeout")
RESERVED = ("/turns", "/json", "/twins")
STRICT_RATE, STRICT_BURST = 5, 10
REQUEST_TIMEOUT = 20


class Judge:
    """Compares what the agents wrote down with what the clients saw."""

    def __init__(self, folder: pathlib.Path):
        self.violations: collections.Counter = collections.Counter()
        self.outcomes: collections.Counter = collections.Counter()
        self.figures: collections.Counter = collections.Counter()
        self.file = (folder / "violations.jsonl").open("w")
        self.records: dict[pathlib.Path, dict] = {}
        self.open: dict[tuple[int, int], list] = {}
        self.ended: list[Execution] = []
        self.requests: dict[str, list[Request]] = {}
        self.finished: collections.deque[Request] = collections.deque()
        self.of_token: dict[str, list[Execution]] = {}
        self.ages: collections.deque[tuple[float, str]] = collections.deque()
        self.lanes: dict[tuple[str, str], Lane] = {}
        # (kind, agent, begin, end); the end of one that goes on is infinite.
        self.disturbances: list[list] = []
        self.deleted: collections.deque[tuple[str, float]] = collections.deque(maxlen=2000)
        # Of requests that were ended from without, as their clients saw: answered with 409, or cut.
        self.interrupted: collections.OrderedDict[str, None] = collections.OrderedDict()
        self.limits: list[tuple[float, dict[str, int]]] = []
        self.events: list[tuple[float, int, str]] = []
        self.running: collections.Counter = collections.Counter()
        self.peaks: collections.Counter = collections.Counter()
        self.strict: collections.deque[float] = collections.deque()

    def violation(self, what: str, *evidence: typing.Any) -> None:
        self.violations[what] += 1
        if self.violations[what] <= 1000:
            told = [item.told() if isinstance(item, Request) else item for item in evidence]
            told = [item._asdict() if isinstance(item, Execution) else item for item in told]
            self.file.write(json.dumps({"at": round(now(), 3), "what": what, "evidence": told}, default=str) + "\n")
            self.file.flush()
        if self.violations[what] <= 5:
            say(f"VIOLATION {what}: {json.dumps(told, default=str)[:1500]}")

    # What was disturbed.

    def disturbed(self, begin: float, end: float, kinds: tuple[str, ...] = ("kill", "stall"), agent: str = "") -> bool:
        return any(
            kind in kinds and (not agent or agent == of) and start - 0.5 < end and begin < over + AFTERMATH
            for kind, of, start, over in self.disturbances
        )

    def stopped_for(self, begin: float, end: float, agent: str = "") -> float:
        """How long agents were stopped within this time, and a little for them to catch up."""
        return sum(
            max(0.0, min(end, over + 1) - max(begin, start)) + 1
            for kind, of, start, over in self.disturbances
            if kind == "stall" and (not agent or agent == of) and start < end and begin < over + 1
        )

    def was_deleted(self, lane: str, begin: float, end: float) -> bool:
        return any(of == lane and begin - 1 < at < end + 1 for of, at in self.deleted)

    # What clients saw.

    def sending(self, request: Request, link: Link) -> None:
        request.link, request.secure, request.fresh = link.number, link.secure, link.fresh
        request.sent = now()
        request.rested = request.sent - link.used
        link.used, link.fresh = request.sent, False
        self.requests.setdefault(request.token, []).append(request)

    def left(self, request: Request, how: str) -> None:
        request.left, request.how_left = now(), how
        request.done = request.left
        self.outcomes[request.kind, "left: " + how] += 1
        self.finished.append(request)

    def answered(self, request: Request, answer: Answer) -> None:
        request.done, request.status, request.end = now(), answer.status, answer.end
        problem = self._problem_of(request, answer)
        outcome = f"{answer.status} {request.reason}".strip() if answer.end == "whole" else f"{answer.status} {answer.end}"
        self.outcomes[request.kind, outcome] += 1
        if request.reason == "interrupted" or answer.end in ("cut", "none"):
            self.interrupted[request.token] = None
            if len(self.interrupted) > 5000:
                self.interrupted.popitem(last=False)
        if problem:
            self.violation(problem, request, answer.fields, answer.body[-400:].decode("latin-1"))
        self.finished.append(request)

    def _may_be_ended(self, request: Request) -> bool:
        return request.kind == "busy" or self.was_deleted(request.lane, request.sent, request.done)

    def _problem_of(self, request: Request, answer: Answer) -> str | None:
        if answer.end == "hung":
            return "no end of an answer"
        if answer.end == "none" and request.rested > (MAY_BE_CLOSED_UNUSED if request.fresh else MAY_BE_CLOSED):
            self.figures["sent on a connection that was about to be closed"] += 1
            return None
        if answer.end == "none" and self._may_be_ended(request):
            # It should be 409, or amid an answer a cut.
            half = " (half-closed)" if request.kind == "half-closing" else ""
            return "interrupted, and no answer" + half
        if answer.end == "none":
            return "connection closed without an answer"
        if answer.status == 200:
            return self._problem_of_200(request, answer)
        if answer.end != "whole":
            return "a refusal was cut"
        return self._problem_of_refusal(request, answer)

    def _problem_of_200(self, request: Request, answer: Answer) -> str | None:
        expected = request.expected
        if not expected.startswith(answer.body):
            return "bytes that are not its own"
        if request.do.startswith(("cut", "break")):
            return "a broken answer looks whole" if answer.end == "whole" else None
        if answer.end == "whole":
            return None if answer.body == expected else "a whole answer that lacks its end"
        if self._may_be_ended(request) or self.disturbed(request.sent, request.done):
            return None
        return "cut, and nothing explains it"

    def _problem_of_refusal(self, request: Request, answer: Answer) -> str | None:
        try:
            problem = json.loads(answer.body)
            request.reason = problem["reason"]
        except (ValueError, KeyError, TypeError):
            return "neither an agent's answer nor a problem"
        if problem.get("status") != answer.status:
            return "a problem of another status"
        if answer.status in (429, 503) and not re.fullmatch("[1-9][0-9]*", answer.fields.get("retry-after", "")):
            return "no Retry-After"
        allowed = ALWAYS | REASONS.get(request.kind, {}) | (OF_SESSIONS if request.lane else {})
        if request.do.startswith("break"):
            allowed = allowed | {"upstream_broken": 502}
        if request.body and request.done - request.sent > REQUEST_TIMEOUT:
            # This process was kept from sending it.
            allowed = allowed | {"request_timeout": 408}
        if self._may_be_ended(request):
            allowed = allowed | ENDED
        if self.disturbed(request.sent, request.done):
            allowed = allowed | DISTURBED
        if allowed.get(request.reason) != answer.status:
            return f"refused with {answer.status} {request.reason}, and nothing explains it"
        return None

    # What the agents wrote down.

    def follow(self, path: pathlib.Path, agent: str, pid: int) -> None:
        self.records[path] = {"agent": agent, "pid": pid, "offset": 0, "rest": b"", "killed": None}

    def killed(self, path: pathlib.Path, at: float) -> None:
        self.records[path]["killed"] = at

    def read(self) -> None:
        for path, record in list(self.records.items()):
            with path.open("rb") as file:
                file.seek(record["offset"])
                octets = file.read()
            record["offset"] += len(octets)
            *lines, record["rest"] = (record["rest"] + octets).split(b"\n")
            for line in lines:
                self._line(record, json.loads(line))
            if record["killed"]:
                for key in [key for key in self.open if key[0] == record["pid"]]:
                    self._ended(record, self.open.pop(key), record["killed"], "killed")
                del self.records[path]

    def _line(self, record: dict, line: list) -> None:
        if line[0] == "begin":
            _, number, at, path, lane, token = line
            self.open[record["pid"], number] = [token, path, lane, at]
            if token not in self.requests:
                self.violation("an agent executes what nobody asked for", line)
        elif line[0] == "end":
            _, number, at, how = line
            self._ended(record, self.open.pop((record["pid"], number)), at, how)
        else:
            self.figures["found gone by an agent before it began"] += 1

    def _ended(self, record: dict, begun: list, at: float, how: str) -> None:
        token, path, lane, start = begun
        execution = Execution(token, path, lane, start, max(at, start), how, record["agent"], record["pid"])
        self.figures["executed"] += 1
        self.figures["executed: " + how] += 1
        self.ended.append(execution)
        executions = self.of_token.setdefault(token, [])
        executions.append(execution)
        self.ages.append((now(), token))
        if len(executions) > 1:
            self._ran_again(executions)
        if path == "/strict":
            self._strictly(start)
        if how != "gone":
            # When one was closed, its agent learns of it later than the gateway gave away its place.
            heapq.heappush(self.events, (start, 1, path))
            heapq.heappush(self.events, (execution.end, -1, path))

    def _strictly(self, start: float) -> None:
        """A minute's tokens, and those of who had one and waited for a place."""
        self.strict.append(start)
        while self.strict[0] < start - 60:
            self.strict.popleft()
        most = "most in a minute at the strict rate"
        self.figures[most] = max(self.figures[most], len(self.strict))
        if len(self.strict) > STRICT_BURST + STRICT_RATE * (60 + 15):
            self.violation("the strict rate was not kept", len(self.strict))

    def _ran_again(self, executions: list[Execution]) -> None:
        twins = any(request.twin for request in self.requests.get(executions[0].token, ()))
        *earlier, last = sorted(executions, key=lambda execution: execution.start)
        requests = self.requests.get(executions[0].token, ())
        # Who comes when the work is done and its client has gone finds nothing to share: sent at once is not received at once.
        gone = any(request.how_left and request.left < last.start for request in requests)
        apart = all(execution.end < last.start for execution in earlier)
        if twins and gone and apart:
            self.figures["twins that came after the first had gone"] += 1
        elif not twins or any(execution.how == "whole" for execution in earlier):
            self.violation("ran twice", *executions, *self.requests.get(executions[0].token, ()))

    def look(self, everything: bool = False) -> None:
        """Reads on and judges what is old enough."""
        self.read()
        horizon = now() - (0 if everything else HORIZON)
        # Nothing may be judged before what began earlier and goes on has ended.
        goes_on = {(path, lane): at for _, path, lane, at in self.open.values()}
        rest, waits = [], set()
        for execution in sorted(self.ended, key=lambda execution: execution.start):
            place = execution.path, execution.lane
            if execution.end > horizon or goes_on.get(place, horizon) < execution.start or place in waits:
                rest.append(execution)
                waits.add(place)
            elif execution.lane and execution.path in RESERVED:
                self._in_lane(self.lanes.setdefault(place, Lane()), execution)
        self.ended = rest
        self._at_once(min([horizon - 60 * (not everything), *(at for *_, at in self.open.values())]))
        while self.finished and (everything or self.finished[0].done < horizon):
            self._settle(self.finished.popleft())
        while self.ages and (everything or self.ages[0][0] < now() - 300):
            self.of_token.pop(self.ages.popleft()[1], None)
        self.disturbances = [one for one in self.disturbances if one[3] > now() - 400]
        if len(self.lanes) > 5000:
            # Those that nobody will use again; the names of the others are few.
            self.lanes = {place: lane for place, lane in self.lanes.items() if not place[1].startswith("once-")}

    def _in_lane(self, lane: Lane, execution: Execution) -> None:
        self.figures["turns judged"] += 1
        last, gone = lane.last, lane.gone
        # Stopped when its connection was closed, it may have begun what it should not have.
        excused = execution.how == "gone" and self.stopped_for(execution.start - 2, execution.start, execution.agent) > 0
        if last and execution.start < last.end < execution.start + NOTICES and last.token in self.interrupted:
            # The gateway had closed its connection; the agent came to its end before it knew.
            self.figures["turns begun before an agent noticed the end of the one before"] += 1
        elif last and execution.start < last.end and not excused:
            self.violation("turns of a session overlap", last, execution, *self.requests.get(execution.token, ()))
        if gone and execution.start < gone.end:
            self.figures["turns begun before an agent noticed the end of the one before"] += 1
            late = gone.end - execution.start
            if late > NOTICES + self.stopped_for(execution.start, gone.end, gone.agent):
                self.violation("a turn began while a cut one went on", gone, execution)
        if execution.how == "gone":
            lane.gone = execution if not gone or execution.end > gone.end else gone
        elif not last or execution.end > last.end:
            lane.last = execution
        requests = self.requests.get(execution.token)
        if requests and requests[0].numbered and not excused:
            self._in_order(lane, requests[0], execution)

    def _in_order(self, lane: Lane, request: Request, execution: Execution) -> None:
        self.figures["numbered turns judged"] += 1
        before = lane.of_link.get(request.link)
        if before and before.sent > request.sent:
            self.violation("out of order on one connection", before, request, execution)
        latest = lane.latest
        if latest and latest.link != request.link and latest.sent > request.sent:
            apart = latest.sent - request.sent
            confirmed = request.kind == "turns, confirmed" and latest.kind == request.kind
            if confirmed or apart > BEYOND_DOUBT:
                self.violation("out of order", latest, request, execution)
            else:
                bound = next(ms for ms in (20, 50, 100, 300, 1000, 4000) if apart * 1000 <= ms)
                self.figures[f"in doubt: sent up to {bound} ms apart on different connections, ran the other way"] += 1
        if not before or request.sent > before.sent:
            lane.of_link[request.link] = request
            lane.of_link.move_to_end(request.link)
            while len(lane.of_link) > 8:
                lane.of_link.popitem(last=False)
        if not latest or request.sent > latest.sent:
            lane.latest = request

    def bound(self, at: float) -> dict[str, int]:
        """The highest limits that what runs at this time may have been let in under."""
        in_force = [
            limits
            for place, (since, limits) in enumerate(self.limits)
            if since <= at and (place + 1 == len(self.limits) or self.limits[place + 1][0] > at - 25)
        ]
        return {scope: max(limits[scope] for limits in in_force) for scope in ("all", "agents", "streams", "uploads")}

    def _at_once(self, until: float) -> None:
        while self.events and self.events[0][0] < until:
            at, step, path = heapq.heappop(self.events)
            scopes = ["all", "streams" if path in ("/streams", "/finishing") else "agents"]
            scopes += ["uploads"] if path == "/uploads" else []
            bound = self.bound(at)
            for scope in scopes:
                self.running[scope] += step
                self.peaks[scope] = max(self.peaks[scope], self.running[scope])
                if step > 0 and self.running[scope] == bound[scope]:
                    self.figures[f"moments at the limit: {scope}"] += 1
                if step > 0 and self.running[scope] > bound[scope]:
                    self.violation(f"more at once than the limit of {scope}", at, self.running[scope], bound)

    def _settle(self, request: Request) -> None:
        """A request whose client has its answer, or left, some time ago."""
        executions = self.of_token.get(request.token, [])
        if request.status == 200 and request.end == "whole" and not any(one.how == "whole" for one in executions):
            self.violation("an answer that no agent gave", request, *executions)
        if request.reason and request.reason not in MAY_HAVE_RUN and executions and not request.twin:
            self.violation("refused, and ran all the same", request, *executions)
        if request.left:
            for execution in executions:
                self._settle_left(request, execution)
        requests = self.requests.get(request.token, [])
        if request in requests:
            requests.remove(request)
        if not requests:
            self.requests.pop(request.token, None)

    def _settle_left(self, request: Request, execution: Execution) -> None:
        stopped = self.stopped_for(min(request.left, execution.start) - 10, execution.end)
        if request.twin:
            return
        if execution.start > request.left + NOTICES + stopped:
            if request.how_left == "close amid an upload":
                # The end lies behind octets that the client's system has not got rid of yet: nobody can know.
                self.figures["begun for who had closed behind unsent octets"] += 1
                return
            self.violation("ran though its client had left while it waited", request, execution)
        if "upload" in request.how_left and execution.how == "whole":
            self.violation("half an upload was taken for a whole one", request, execution)
        if execution.how != "gone" or self._may_be_ended(request):
            if execution.path == "/streams" and execution.end > request.left + NOTICES + 2 + stopped:
                self.violation("a stream went on though its client had left", request, execution)
            return
        # It was running, and its connection was closed. May that be?
        finishes = execution.path == "/finishing" or (execution.path == "/turns" and request.do.startswith("work"))
        had_begun = execution.start < request.left - 0.5
        if finishes and had_begun and "upload" not in request.how_left and execution.end - request.left < 7 and not stopped:
            self.violation("work was cut that was to be finished", request, execution)


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


# The processes.


class AgentProcess:
    """One of the agents, and whatever becomes of it."""

    def __init__(self, name: str, folder: pathlib.Path, judge: Judge):
        self.name, self.folder, self.judge = name, folder, judge
        self.address = address_apart()
        self.lives = 0
        self.start()

    def start(self) -> None:
        self.lives += 1
        self.record = self.folder / f"{self.name}-{self.lives}.jsonl"
        self.record.touch()
        command = [sys.executable, __file__, "--agent", str(self.record), self.address]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.judge.follow(self.record, self.name, self.process.pid)

    async def listening(self) -> None:
        async def is_there() -> bool:
            return listens(self.address)

        await soon_beside(f"{self.name} listens", is_there, SOON, 0.05)

    def kill(self) -> None:
        at = now()
        self.process.kill()
        self.process.wait(SOON)
        self.judge.killed(self.record, at)


POLICY = """\
listen:
  - "{plain}"
  - {{ address: "{secure}", tls: {{ cert: tls/cert.pem, key: tls/key.pem }} }}
admin: {{ listen: "{admin}" }}
server: {{ workers: 2, keep_alive_timeout: 30s, header_timeout: 10s, drain_timeout: 30s }}
limits:
  concurrency: {all}
  queue: {queue}
  queue_bytes: 32MiB
  queue_timeout: 15s
  fair_by: {{ header: X-Api-Key }}
  queue_share: 75%
  keys: 5000
upstreams:
  agents:
    servers: ["http://{first}", "http://{second}"]
    concurrency: {agents}
    balance: least_inflight
    connect_timeout: 2s
    pool: {{ max_idle: 32, idle_timeout: 10s }}
    health: {{ path: /health, interval: 2s, timeout: 2s, healthy_after: 1, unhealthy_after: 2 }}
    eject: {{ after_failures: 3, for: 3s }}
    retry: {{ attempts: 3, on: [connect] }}
  streams:
    servers: ["http://{first}", "http://{second}"]
    concurrency: {streams}
    balance: round_robin
    connect_timeout: 2s
    pool: {{ max_idle: 32, idle_timeout: 10s }}
    eject: {{ after_failures: 3, for: 3s }}
    retry: {{ attempts: 3, on: [connect] }}
  steady: {{ servers: ["http://{steady}"], pool: {{ idle_timeout: 10s }} }}
defaults:
  abandoned_limit: 8s
  timeouts: {{ request: 20s, response: 10s, idle: 10s, total: 30s }}
routes:
  - {{ name: quiet, match: {{ path: /quiet }}, upstream: steady, exempt: true }}
  - name: turns
    match: {{ path: /turns }}
    upstream: agents
    session:
      key: [{{ header: X-Session-Id }}]
      queue: {depth}
      queue_timeout: 20s
      when_busy_choices: [wait, reject, replace, interrupt]
    abandoned: auto
  - name: twins
    match: {{ path: /twins }}
    upstream: agents
    session: {{ key: [{{ header: X-Session-Id }}], duplicates: join, replay_for: 5s }}
  - name: json
    match: {{ path: /json }}
    upstream: agents
    session: {{ key: [{{ json: /session }}] }}
    rate_limits: [{{ per: session, rate: 20/s, burst: 5, when_exceeded: wait }}]
  - {{ name: streams, match: {{ path: /streams }}, upstream: streams, abandoned: auto }}
  - {{ name: finishing, match: {{ path: /finishing }}, upstream: streams, abandoned: finish }}
  - {{ name: uploads, match: {{ path: /uploads }}, upstream: agents, concurrency: {uploads}, body_limit: 4MiB, priority: low }}
  - name: metered
    match: {{ path: /metered }}
    upstream: agents
    rate_limits:
      - {{ per: {{ header: X-Api-Key }}, rate: {rate}/s, burst: 5, when_exceeded: wait, queue: 10, queue_timeout: 5s }}
  - name: strict
    match: {{ path: /strict }}
    upstream: agents
    rate_limits: [{{ per: client_ip, rate: 5/s, burst: 10, when_exceeded: reject }}]
  - {{ name: plain, match: {{ path: /plain }}, upstream: agents }}
"""
BASE = {"all": 20, "agents": 16, "streams": 12, "uploads": 6, "rate": 4, "depth": 32, "queue": 400}
VARIANTS = {
    "base": BASE,
    "narrow": BASE | {"all": 8, "agents": 6, "streams": 5, "uploads": 2, "rate": 2, "queue": 100},
    "wide": BASE | {"all": 30, "agents": 24, "streams": 16, "uploads": 8, "rate": 8, "depth": 64, "queue": 600},
    "one at once": BASE | {"agents": 5, "streams": 3, "uploads": 1},
}
BROKEN = (
    lambda text: text.replace("concurrency:", "concurency:", 1),
    lambda text: text[: len(text) // 2] + "\n  - {",
    lambda text: "",
    lambda text: text.replace("rate: 5/s", "rate: 0/s"),
    lambda text: text.replace("upstream: steady", "upstream: nowhere"),
)
SAMPLED = (
    "seconds", "rss_mb", "fds", "threads", "cpu_percent", "probe_p50_ms", "probe_p95_ms", "direct_p50_ms", "direct_p95_ms",
    "probe_failures", "in_flight", "waiting_turn", "waiting_rate", "waiting_place", "queue_bytes", "sessions", "rate_limit_keys",
    "connections", "upstream_connections", "leaks", "generation", "healthy", "other_fds", "sent", "violations",
)  # fmt: skip


class Certificates:
    """An authority, and what it certifies anew whenever asked."""

    def __init__(self, folder: pathlib.Path, host: str):
        self.folder, self.host, self.count = folder, host, 0
        (folder / "tls").mkdir()
        self.authority = folder / "authority.pem"
        options = ["-x509", "-subj", "/CN=endurance", "-days", "2", "-keyout", folder / "authority.key", "-out", self.authority]
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *options)

    def _openssl(self, *words: typing.Any) -> str:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise Failed(f"openssl {words[0]}: {done.stderr}")
        return done.stdout

    def renew(self) -> int:
        """Writes certificate and key, one after the other, and says which serial number it has."""
        self.count += 1
        new = self.folder / "new"
        subject = ["-subj", f"/CN={self.host}", "-keyout", f"{new}.key", "-out", f"{new}.csr"]
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject)
        pathlib.Path(f"{new}.ext").write_text(f"subjectAltName=IP:{self.host}\n")
        signing = ["-CA", self.authority, "-CAkey", self.folder / "authority.key", "-set_serial", 1000 + self.count]
        self._openssl("x509", "-req", "-in", f"{new}.csr", *signing, "-days", "2", "-extfile", f"{new}.ext", "-out", f"{new}.pem")
        for suffix in ("pem", "key"):
            name = {"pem": "cert.pem", "key": "key.pem"}[suffix]
            os.replace(f"{new}.{suffix}", self.folder / "tls" / name)
        return 1000 + self.count


class Gateway(Watched):
    """The process, its policy file and its doors."""

    def __init__(self, binary: str, folder: pathlib.Path, agents: list[AgentProcess]):
        self.binary, self.folder = os.path.abspath(binary), folder
        self.plain, self.admin_address = address_apart(), address_apart()
        host = self.plain.rsplit(":", 1)[0]
        self.secure = free_address(host)
        self.addresses = dict(zip(("first", "second", "steady"), (agent.address for agent in agents)))
        self.certificates = Certificates(folder, host)
        self.certificates.renew()
        self.policy = folder / "gateway.yaml"
        self.policy.write_text(self.text(BASE))
        self.log = folder / "gateway.log"
        self.admin_link: Link | None = None
        self.admin_lock = asyncio.Lock()

    def text(self, values: dict) -> str:
        doors = {"plain": self.plain, "secure": self.secure, "admin": self.admin_address}
        return POLICY.format(**values, **doors, **self.addresses)

    def replace_policy(self, text: str) -> None:
        new = self.folder / "gateway.new"
        new.write_text(text)
        os.replace(new, self.policy)

    async def start(self) -> None:
        command = [self.binary, "serve", "-c", str(self.policy), "--log-level", "info", "--log-format", "json"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        await self.soon("the gateway is ready", self._is_ready)

    async def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise Failed(f"it ended with {self.process.returncode}: {self.log.read_text()[-500:]}")
        try:
            return (await self.admin("GET", "/-/ready"))[0] == 200
        except OSError:
            return False

    @staticmethod
    async def soon(what: str, condition: typing.Callable[[], typing.Awaitable]) -> None:
        await soon_beside(what, condition, SOON, 0.1)

    async def admin(self, method: str, target: str) -> tuple[int, str]:
        async with self.admin_lock:
            if not self.admin_link or self.admin_link.closed:
                host, port = self.admin_address.rsplit(":", 1)
                _, self.admin_link = await asyncio.get_running_loop().create_connection(Link, host, int(port))
            head = f"{method} {target} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n"
            self.admin_link.transport.write(head.encode())
            answer = await asyncio.wait_for(read_answer(self.admin_link), SOON)
            if answer.fields.get("connection") == "close" or answer.end != "whole":
                self.admin_link.close()
                self.admin_link = None
            return answer.status, answer.body.decode()

    async def metrics(self) -> list[Sample]:
        return samples((await self.admin("GET", "/metrics"))[1])


# The load.


class Load:
    """Clients of all kinds, until told to end."""

    def __init__(self, gateway: Gateway, judge: Judge, folder: pathlib.Path):
        self.gateway, self.judge, self.folder = gateway, judge, folder
        self.going = asyncio.Event()
        self.over = False
        self.active = 0
        self.sent = 0
        self.links: set[Link] = set()
        self.numbers = 0
        self.shared: list[Link2 | None] = [None] * 6
        self.tasks: list[asyncio.Task] = []
        self.failures: list[str] = []
        authority = folder / "authority.pem"
        self.tls = ssl.create_default_context(cafile=str(authority))
        self.tls2 = ssl.create_default_context(cafile=str(authority))
        self.tls2.set_alpn_protocols(["h2"])

    # Connections.

    async def connect(self, secure: bool | None = None, kind: type = Link, receive_buffer: int = 0) -> typing.Any:
        if secure is None:
            secure = random.random() < 0.4
        while True:
            began = now()
            try:
                link = await self._connect(secure, kind, receive_buffer)
            except OSError:
                # The gateway does not wait for a greeting for ever, but this process may have been kept from sending it.
                if now() - began < MAY_BE_CLOSED_UNUSED:
                    raise
                self.judge.figures["too slow to open a connection"] += 1
                continue
            self.numbers += 1
            link.number, link.secure, link.used = self.numbers, secure, began
            self.links.add(link)
            link.lost.add_done_callback(lambda _: self.links.discard(link))
            return link

    async def _connect(self, secure: bool, kind: type, receive_buffer: int) -> typing.Any:
        host, port = (self.gateway.secure if secure else self.gateway.plain).rsplit(":", 1)
        opened = socket.socket()
        opened.setblocking(False)
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(opened, (host, int(port))), SOON)
        context = (self.tls2 if kind is Link2 else self.tls) if secure else None
        making = loop.create_connection(kind, sock=opened, ssl=context, server_hostname=host if secure else None)
        return (await asyncio.wait_for(making, SOON))[1]

    async def again(self, link: Link | None, **options: typing.Any) -> Link:
        """This connection if it can be used again, else another."""
        if link and not link.closed and not link.transport.is_closing():
            if not link.buffer and link.used > now() - RESTS_AT_MOST:
                return link
            if not link.buffer:
                link.close()
                return await self.connect(**options)
            self.judge.violation("octets after an answer", bytes(link.buffer[:300]).decode("latin-1"))
            link.reset()
        return await self.connect(**options)

    def close_all(self) -> None:
        for link in list(self.links):
            link.transport.abort()

    # Exchanges.

    @contextlib.contextmanager
    def exchange(self) -> typing.Iterator[None]:
        self.active += 1
        self.sent += 1
        try:
            yield
        finally:
            self.active -= 1

    def send(self, link: Link, request: Request, head: bytes | None = None) -> None:
        self.judge.sending(request, link)
        link.transport.write(head if head is not None else request.head() + request.body)

    async def receive(self, link: Link, request: Request, **how: typing.Any) -> Answer:
        try:
            answer = await asyncio.wait_for(read_answer(link, **how), PATIENCE)
        except asyncio.TimeoutError:
            answer = Answer(0, {}, bytes(link.buffer), "hung")
        link.used = now()
        self.judge.answered(request, answer)
        if answer.end != "whole":
            link.transport.abort()
        elif answer.fields.get("connection", "").lower() == "close":
            link.close()
        return answer

    async def ask(self, link: Link, request: Request, **how: typing.Any) -> Answer:
        with self.exchange():
            self.send(link, request)
            return await self.receive(link, request, **how)

    async def ask2(self, link: Link2, request: Request) -> None:
        with self.exchange():
            self.judge.sending(request, link)
            try:
                answer = await asyncio.wait_for(link.answer(link.begin(request)), PATIENCE)
            except asyncio.TimeoutError:
                answer = Answer(0, {}, b"", "hung")
            link.used = now()
            self.judge.answered(request, answer)

    async def link2(self) -> Link2:
        place = random.randrange(len(self.shared))
        link = self.shared[place]
        rested = link and not link.streams and link.used < now() - RESTS_AT_MOST
        if not link or rested or link.closed or link.going_away or link.transport.is_closing():
            if rested:
                link.close()
            link = self.shared[place] = await self.connect(kind=Link2)
        return link

    def begin(self, client: typing.Callable[..., typing.Awaitable], *arguments: typing.Any) -> None:
        self.tasks.append(asyncio.create_task(self._repeat(client, arguments)))

    async def _repeat(self, client: typing.Callable[..., typing.Awaitable], arguments: tuple) -> None:
        """One client, from its first request to its last. It rests while the load does."""
        memory: dict = {}
        await asyncio.sleep(random.random() * 3)
        while not self.over:
            await self.going.wait()
            if self.over:
                return
            try:
                await client(memory, *arguments)
            except (OSError, asyncio.TimeoutError, ssl.SSLError, Gone) as error:
                # Connections are opened in a storm, but none may be refused.
                self.judge.violation("a client could not do its part", client.__name__, repr(error))
                await asyncio.sleep(1)
            except Exception as error:  # The load must not thin out unseen.
                self.failures.append(f"{client.__name__}: {error!r}")
                self.judge.violation("the load itself failed", client.__name__, repr(error))
                await asyncio.sleep(1)

    def begin_all(self) -> None:
        for session in range(50):
            self.begin(self.conversation, f"n-{session}")
        for session in range(5):
            self.begin(self.busy, f"b-{session}")
            self.begin(self.busy, f"b-{session}")
        for number in range(6):
            self.begin(self.streaming, "/streams" if number % 2 else "/finishing")
            self.begin(self.leaving_a_stream, "/streams" if number % 2 else "/finishing")
        for number in range(5):
            self.begin(self.twins, f"t-{number}")
            self.begin(self.metered, f"key-{number % 3}")
            self.begin(self.with_key_in_body)
            self.begin(self.leaving_a_turn, f"l-{number}")
        for _ in range(3):
            self.begin(self.uploading)
            self.begin(self.strict)
            self.begin(self.half_closing)
        for _ in range(2):
            self.begin(self.reading_slowly)
            self.begin(self.breaking)
            self.begin(self.garbage)
            self.begin(self.leaving_an_upload)
            self.begin(self.leaving_h2)
        for _ in range(10):
            self.begin(self.resting)

    @staticmethod
    def tenant() -> str:
        return f"tenant-{random.randrange(8)}"

    # Numbered turns.

    async def conversation(self, memory: dict, session: str) -> None:
        number = random.choice((1, 2, 3, 3))
        way = random.choice(("turns, pipelined", "turns, h2", "turns, confirmed", "turns, several"))
        requests = []
        for _ in range(number):
            do = f"work {random.randrange(10, 80)}" if random.random() < 0.85 else "stream 3 15"
            body = filled(session, random.randrange(1, 2000)) if random.random() < 0.5 else b""
            requests.append(Request(way, "/turns", do, session, body, tenant=self.tenant()))
            requests[-1].numbered = True
        await getattr(self, "_" + way.split()[1])(memory, requests)
        await asyncio.sleep(random.uniform(6, 12) if random.random() < 0.05 else random.uniform(0.4, 1.4))

    async def _pipelined(self, memory: dict, requests: list[Request]) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        with contextlib.ExitStack() as stack:
            for request in requests:
                stack.enter_context(self.exchange())
                self.send(link, request)
                await asyncio.sleep(random.uniform(0.01, 0.03))
            for place, request in enumerate(requests):
                answer = await self.receive(link, request)
                if link.closed or link.transport.is_closing() or answer.end != "whole":
                    # Those behind it on a connection that ended were not answered; which is told by its end.
                    for other in requests[place + 1 :]:
                        self.judge.left(other, "behind an answer that ended the connection")
                    return

    async def _h2(self, _: dict, requests: list[Request]) -> None:
        link = await self.link2()
        tasks = []
        for request in requests:
            tasks.append(asyncio.create_task(self.ask2(link, request)))
            await asyncio.sleep(random.uniform(0.01, 0.03))
        await asyncio.gather(*tasks)

    async def _several(self, memory: dict, requests: list[Request], confirmed: bool = False) -> None:
        links = memory.setdefault("links", [None, None, None])
        for place in range(len(requests)):
            links[place] = await self.again(links[place])
        tasks: list[asyncio.Task] = []
        for place, request in enumerate(requests):
            with self.exchange():
                self.send(links[place], request)
            tasks.append(asyncio.create_task(self._answer(links[place], request)))
            if confirmed:
                await self._known(request, tasks[-1])
            else:
                await asyncio.sleep(random.uniform(0.01, 0.15))
        await asyncio.gather(*tasks)

    async def _answer(self, link: Link, request: Request) -> None:
        self.active += 1
        try:
            await self.receive(link, request)
        finally:
            self.active -= 1

    async def _known(self, request: Request, answered: asyncio.Task) -> None:
        """The gateway shows it among those of its session, or it is over."""
        while not answered.done():
            if f'"{request.token}"' in (await self.gateway.admin("GET", f"/sessions/{request.lane}"))[1]:
                return
            await asyncio.sleep(0.01)

    async def _confirmed(self, memory: dict, requests: list[Request]) -> None:
        await self._several(memory, requests, confirmed=True)

    # Others.

    async def busy(self, memory: dict, session: str) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        do = random.choice(("work 50", "work 300", "stream 6 50"))
        request = Request("busy", "/turns", do, session, tenant=self.tenant())
        request.fields["Turnwise-When-Busy"] = random.choice(("wait", "wait", "reject", "replace", "interrupt"))
        await self.ask(link, request)
        await asyncio.sleep(random.uniform(0.1, 1.0))

    async def streaming(self, memory: dict, path: str) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        do = f"stream {random.randrange(4, 20)} {random.randrange(20, 90)}"
        await self.ask(link, Request("streams", path, do, tenant=self.tenant()))
        await asyncio.sleep(random.uniform(0.2, 1.5))

    async def leaving_a_stream(self, _: dict, path: str) -> None:
        link = await self.connect()
        request = Request("leavers", path, "stream 20 100", tenant=self.tenant())
        with self.exchange():
            self.send(link, request)
            try:
                answer = await asyncio.wait_for(read_answer(link, stop_after=random.randrange(20, 200)), PATIENCE)
            except asyncio.TimeoutError:
                answer = Answer(0, {}, b"", "hung")
            if answer.end == "enough":
                way = random.choice(("close", "reset"))
                link.leave(way)
                self.judge.left(request, f"{way} amid a stream")
            else:
                self.judge.answered(request, answer)
                link.leave("close")
        await asyncio.sleep(random.uniform(1, 4))

    async def twins(self, memory: dict, session: str) -> None:
        token = f"{random.getrandbits(64):016x}"
        body = filled(token, random.randrange(10, 500))
        do = random.choice(("work 100", "stream 5 40", "big 100000"))
        requests = []
        for _ in range(2):
            requests.append(Request("twins", "/twins", do, session, body, token=token, tenant="tenant-0"))
            if int(token, 16) % 2:
                requests[-1].fields["Idempotency-Key"] = f'"{token}"'
        links = memory.setdefault("links", [None, None])
        for place in range(2):
            links[place] = await self.again(links[place])
        tasks = [asyncio.create_task(self.ask(links[0], requests[0]))]
        # Together, or while the other runs, or when it has its answer.
        await asyncio.sleep(random.choice((0, 0.05, 1)))
        if random.random() < 0.15:
            # The first one leaves, and the other must still be served.
            await self._first_twin_leaves(tasks, links, requests)
            return
        tasks.append(asyncio.create_task(self.ask(links[1], requests[1])))
        answers = await asyncio.gather(*tasks)
        joined = [answer.fields.get("turnwise-joined") == "true" for answer in answers]
        self.judge.outcomes["twins", f"pairs with {sum(joined)} joined"] += 1
        served = all(answer.status == 200 and answer.end == "whole" for answer in answers)
        if served and sum(joined) != 1:
            self.judge.violation("two equal requests, and not one joined", joined, *requests)
        await asyncio.sleep(random.uniform(0.3, 1.5))

    async def _first_twin_leaves(self, tasks: list[asyncio.Task], links: list[Link], requests: list[Request]) -> None:
        tasks[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]
        second = asyncio.create_task(self.ask(links[1], requests[1]))
        await asyncio.sleep(0.02)
        if not requests[0].done:
            links[0].reset()
            self.judge.left(requests[0], "reset before its twin")
        await second

    async def metered(self, memory: dict, key: str) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        await self.ask(link, Request("metered", "/metered", "work 5", tenant=key))
        await asyncio.sleep(random.uniform(0, 0.3))

    async def strict(self, memory: dict) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        await self.ask(link, Request("strict", "/strict", "work 5", tenant=self.tenant()))
        await asyncio.sleep(random.uniform(0.1, 0.5))

    async def with_key_in_body(self, memory: dict) -> None:
        """The session's key is in the body. Mostly it is one that never comes again, so that keys must be forgotten."""
        link = memory["link"] = await self.again(memory.get("link"))
        session = f"once-{random.getrandbits(40):x}" if random.random() < 0.8 else f"j-{random.randrange(5)}"
        body = json.dumps({"filler": "x" * random.randrange(20000), "session": session}).encode()
        request = Request("json", "/json", f"work {random.randrange(30)}", session, body, tenant=self.tenant())
        request.fields["Content-Type"] = "application/json"
        await self.ask(link, request)
        await asyncio.sleep(random.uniform(0.1, 0.6))

    async def leaving_a_turn(self, _: dict, session: str) -> None:
        """Three of one session: one runs, one leaves while it waits, one while it runs or waits; each somehow."""
        links = [await self.connect() for _ in range(3)]
        tasks = []
        for link in links:
            request = Request("leavers", "/turns", f"work {random.randrange(100, 700)}", session, tenant=self.tenant())
            tasks.append(asyncio.create_task(self._leave(link, request, random.choice((0.02, 0.2, 0.5, 1.0)))))
            await asyncio.sleep(0.03)
        await asyncio.gather(*tasks)
        await asyncio.sleep(random.uniform(0.5, 2))

    async def _leave(self, link: Link, request: Request, after: float) -> None:
        with self.exchange():
            self.send(link, request)
            reading = asyncio.create_task(read_answer(link))
            done, _ = await asyncio.wait({reading}, timeout=after)
            if done:
                self.judge.answered(request, reading.result())
                link.close()
                return
            reading.cancel()
            way = random.choice(("close", "reset"))
            link.leave(way)
            self.judge.left(request, f"{way} amid a turn")

    async def leaving_h2(self, _: dict) -> None:
        link = await self.link2()
        request = Request("leavers", "/turns", "work 400", f"l-{random.randrange(5)}", tenant=self.tenant())
        with self.exchange():
            self.judge.sending(request, link)
            number = link.begin(request)
            await asyncio.wait({link.streams[number].over}, timeout=random.choice((0, 0.05, 0.3)))
            if link.streams[number].over.done():
                self.judge.answered(request, await link.answer(number))
            else:
                link.cancel(number)
                self.judge.left(request, "RST_STREAM amid a turn")
        await asyncio.sleep(random.uniform(0.5, 2))

    async def half_closing(self, _: dict) -> None:
        """Says that it has said everything, and reads on."""
        link = await self.connect(secure=False)
        do = random.choice(("work 20", "work 300", "stream 5 40"))
        request = Request("half-closing", "/turns", do, f"h-{random.randrange(3)}", tenant=self.tenant())
        with self.exchange():
            self.send(link, request)
            await asyncio.sleep(random.choice((0, 0.05)))
            if not link.closed:
                link.transport.write_eof()
            await self.receive(link, request)
            link.close()
        await asyncio.sleep(random.uniform(0.5, 2))

    async def uploading(self, memory: dict) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        token = f"{random.getrandbits(64):016x}"
        request = Request("uploads", "/uploads", "upload", body=filled(token, 1 << 20), token=token, tenant=self.tenant())
        request.twin = False
        request.fields["X-Request-Id"] = token
        with self.exchange():
            reading = await self._upload(link, request, len(request.body))
            await reading
        await asyncio.sleep(random.uniform(0.5, 2))

    async def _upload(self, link: Link, request: Request, length: int) -> asyncio.Task:
        """So much of its body, in pieces, while it listens for an early answer."""
        chunked = random.random() < 0.5
        self.send(link, request, request.head("Transfer-Encoding: chunked" if chunked else None))
        reading = asyncio.create_task(self.receive(link, request))
        pause = random.uniform(0, 0.02)
        with contextlib.suppress(Gone):
            for start in range(0, length, 65536):
                piece = request.body[start : start + 65536]
                await link.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await asyncio.sleep(pause)
                if reading.done():
                    link.close()
                    return reading
            if chunked and length == len(request.body):
                await link.write(b"0\r\n\r\n")
        return reading

    async def leaving_an_upload(self, _: dict) -> None:
        link = await self.connect()
        token = f"{random.getrandbits(64):016x}"
        request = Request("leavers", "/uploads", "upload", body=filled(token, 1 << 20), token=token, tenant=self.tenant())
        request.twin = False
        with self.exchange():
            reading = await self._upload(link, request, 65536 * random.randrange(1, 12))
            if not reading.done():
                reading.cancel()
                way = random.choice(("close", "reset"))
                link.leave(way)
                self.judge.left(request, f"{way} amid an upload")
        await asyncio.sleep(random.uniform(1, 3))

    async def reading_slowly(self, _: dict) -> None:
        link = await self.connect(receive_buffer=16384)
        request = Request("slow readers", "/plain", f"big {random.randrange(500_000, 3_000_000)}", tenant=self.tenant())
        await self.ask(link, request, slowly=random.uniform(0.02, 0.08))
        link.close()
        await asyncio.sleep(random.uniform(1, 4))

    async def breaking(self, _: dict) -> None:
        """Its agent breaks its answer off, or gives none."""
        link = await self.connect()
        path, do = random.choice(("/plain", "/streams")), random.choice(("cut 3 20", "break"))
        request = Request("broken", path, do, tenant=self.tenant())
        await self.ask(link, request)
        link.close()
        await asyncio.sleep(random.uniform(2, 5))

    async def resting(self, memory: dict) -> None:
        link = memory["link"] = await self.again(memory.get("link"))
        await self.ask(link, Request("resting", "/plain", "work 5", tenant=self.tenant()))
        await asyncio.sleep(random.uniform(3, 14))

    async def garbage(self, _: dict) -> None:
        secure = random.random() < 0.3
        host, port = (self.gateway.secure if secure else self.gateway.plain).rsplit(":", 1)
        _, link = await asyncio.get_running_loop().create_connection(Link, host, int(port))
        octets = random.choice(
            (
                random.randbytes(random.randrange(1, 3000)),
                b"GET /plain HTTP/1.1\r\nHost: a\r\nX-Tok",
                b"GET / HTTP/1.1\r\n\r\n",
                b"POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"GET /../plain HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET /plain HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + random.randbytes(200),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(60),
                b"",
            )
        )
        with self.exchange():
            link.transport.write(octets)
            if random.random() < 0.3:
                link.leave(random.choice(("close", "reset")))
                self.judge.outcomes["garbage", "left"] += 1
            else:
                if not await link.lost_within(60):
                    self.judge.violation("garbage was listened to for a minute", octets[:100].decode("latin-1"))
                said = bytes(link.buffer).decode("latin-1")
                outcome = said[:12] if said.startswith("HTTP/1.1 ") else "other octets" if said else "closed"
                self.judge.outcomes["garbage", outcome] += 1
                if said.startswith("HTTP/1.1 ") and said[9] != "4":
                    self.judge.violation("garbage got an answer", octets[:300].decode("latin-1"), said)
                link.leave("close")
        await asyncio.sleep(random.uniform(0.5, 2))

    async def burst(self, number: int, kind: str) -> None:
        """So many connections at once, each with a request: of many clients, of one session, or for one rate limit."""
        path, lane = {"burst": ("/plain", ""), "busy": ("/turns", "b-0"), "metered": ("/metered", "")}[kind]

        async def one() -> None:
            link = await self.connect()
            tenant = "key-0" if kind == "metered" else self.tenant()
            await self.ask(link, Request(kind, path, "work 5", lane, tenant=tenant))
            link.close()

        for outcome in await asyncio.gather(*(one() for _ in range(number)), return_exceptions=True):
            if isinstance(outcome, BaseException):
                self.judge.violation("a connection of a burst failed", repr(outcome))


# What goes wrong.


class Chaos:
    """One thing after another goes wrong, or is changed."""

    KINDS = ("kill", "stall", "policy", "broken_policy", "hang_up", "reload", "renew", "burst", "delete", "delete")

    def __init__(self, gateway: Gateway, judge: Judge, load: Load, agents: list[AgentProcess]):
        self.gateway, self.judge, self.load, self.agents = gateway, judge, load, agents
        self.events: collections.Counter = collections.Counter()
        self.file = (load.folder / "chaos.jsonl").open("w")
        self.values = BASE
        self.lock = asyncio.Lock()

    async def run(self, until: float) -> None:
        kinds: list[str] = []
        while now() < until:
            await self.load.going.wait()
            # Each kind as often as any other, in no order.
            if not kinds:
                kinds = random.sample(self.KINDS, len(self.KINDS))
            async with self.lock:
                if not self.load.going.is_set():
                    continue
                kind = kinds.pop()
                self.events[kind] += 1
                began = now()
                try:
                    told = await getattr(self, kind)()
                    self.file.write(json.dumps([kind, round(began, 3), round(now(), 3), told]) + "\n")
                    self.file.flush()
                except Failed as failed:
                    self.judge.violation(f"{kind}: {re.sub('[0-9]+', 'N', str(failed))}", str(failed))
                except (OSError, asyncio.TimeoutError, ssl.SSLError) as error:
                    self.judge.violation(f"{kind}: could not be done", repr(error))
            await asyncio.sleep(random.uniform(2, 6))

    async def kill(self) -> str:
        agent = random.choice(self.agents[:2])
        disturbance = ["kill", agent.name, now(), float("inf")]
        self.judge.disturbances.append(disturbance)
        agent.kill()
        await asyncio.sleep(random.uniform(0.3, 4))
        agent.start()
        await agent.listening()
        disturbance[3] = now()
        return agent.name

    async def stall(self) -> str:
        agent = random.choice(self.agents[:2])
        disturbance = ["stall", agent.name, now(), float("inf")]
        self.judge.disturbances.append(disturbance)
        agent.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(random.uniform(1, 5))
        finally:
            agent.process.send_signal(signal.SIGCONT)
            disturbance[3] = now()
        return agent.name

    async def _metric(self, name: str, **labels: str) -> float:
        return total(await self.gateway.metrics(), name, **labels)

    async def install(self, values: dict) -> None:
        """Another policy, which the gateway must find by itself."""
        before = await self._metric("turnwise_config_generation")
        self.judge.limits.append((now(), values))
        self.values = values
        text = f"# {random.getrandbits(64)}\n{self.gateway.text(values)}"
        if random.random() < 0.5:
            self.gateway.replace_policy(text)
        else:
            self.gateway.policy.write_text(text)

        async def noticed() -> bool:
            limit = await self._metric("turnwise_concurrency_limit", scope="global")
            return limit == values["all"] and await self._metric("turnwise_config_generation") > before

        await self.gateway.soon("the new policy is in force", noticed)

    async def policy(self) -> str:
        # Every other time the usual one, so that there are moments with each.
        if self.values is not BASE:
            await self.install(BASE)
        else:
            await self.install(random.choice([values for values in VARIANTS.values() if values is not BASE]))
        return next(name for name, values in VARIANTS.items() if values is self.values)

    async def broken_policy(self) -> None:
        good = self.gateway.policy.read_text()
        self.gateway.replace_policy(random.choice(BROKEN)(good))
        try:

            async def seen() -> bool:
                return await self._metric("turnwise_config_last_reload_successful") == 0

            await self.gateway.soon("the broken policy is told of", seen)
            status, body = await self.gateway.admin("POST", "/-/reload")
            if status != 422 or json.loads(body)["valid"]:
                raise Failed(f"a broken policy: reload answers {status} {body}")
            if await self._metric("turnwise_concurrency_limit", scope="global") != self.values["all"]:
                raise Failed("a broken policy changes a limit")
        finally:
            self.gateway.replace_policy(good)

        async def mended() -> bool:
            return await self._metric("turnwise_config_last_reload_successful") == 1

        await self.gateway.soon("the policy is good again", mended)

    async def hang_up(self) -> None:
        before = await self._metric("turnwise_config_reloads_total", result="success")
        self.gateway.process.send_signal(signal.SIGHUP)

        async def reloaded() -> bool:
            return await self._metric("turnwise_config_reloads_total", result="success") > before

        await self.gateway.soon("SIGHUP reloads", reloaded)

    async def reload(self) -> None:
        status, body = await self.gateway.admin("POST", "/-/reload")
        if status != 200 or not json.loads(body)["reloaded"]:
            raise Failed(f"reload answers {status} {body}")

    async def renew(self) -> None:
        serial = await asyncio.to_thread(self.gateway.certificates.renew)

        async def shown() -> bool:
            link = await self.load.connect(secure=True)
            try:
                found = link.transport.get_extra_info("peercert")["serialNumber"]
            finally:
                link.transport.abort()
            return int(found, 16) == serial

        await self.gateway.soon("the new certificate is shown", shown)

    async def burst(self) -> str:
        kind = random.choice(("burst", "busy", "metered"))
        await self.load.burst(200, kind)
        return kind

    async def delete(self) -> str:
        listed = json.loads((await self.gateway.admin("GET", "/sessions?sort=age&limit=50"))[1])
        keys = [row["key"] for row in listed if re.fullmatch(r"[nlbjh]-\d+", row["key"])]
        key = random.choice(keys) if keys else f"n-{random.randrange(50)}"
        self.judge.deleted.append((key, now()))
        status, _ = await self.gateway.admin("DELETE", f"/sessions/{key}?running=true")
        self.judge.deleted.append((key, now()))
        self.events[f"delete: {status}"] += 1
        if status not in (200, 204, 404):
            raise Failed(f"DELETE answers {status}")
        return key


# The whole.


class Run:
    """From the first process to the last."""

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path):
        self.seconds = options.minutes * 60
        self.folder = folder
        self.judge = Judge(folder)
        self.agents = [AgentProcess(name, folder, self.judge) for name in ("first", "second", "steady")]
        self.gateway = Gateway(options.gateway, folder, self.agents)
        self.judge.limits.append((now(), BASE))
        self.load = Load(self.gateway, self.judge, folder)
        self.chaos = Chaos(self.gateway, self.judge, self.load, self.agents)
        self.samples: list[dict] = []
        self.calm: list[dict] = []
        self.tasks: list[asyncio.Task] = []
        self.probe: subprocess.Popen | None = None
        self.probed = folder / "probe.jsonl"
        self.read_to = 0
        self.final: dict = {}

    def check(self, what: str, holds: bool, *evidence: typing.Any) -> None:
        say(f"{'holds' if holds else 'DOES NOT HOLD'}: {what} {' '.join(map(str, evidence))}")
        if not holds:
            self.judge.violation(what, *map(str, evidence))

    async def run(self) -> None:
        for agent in self.agents:
            await agent.listening()
        await self.gateway.start()
        await self.warm_up()
        self.began = now()
        with self.probed.open("w") as output:
            command = [sys.executable, __file__, "--probe", self.gateway.plain, self.agents[2].address]
            self.probe = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output)
        until = self.began + self.seconds
        self.load.begin_all()
        self.load.going.set()
        self.tasks = [asyncio.create_task(task) for task in (self.chaos.run(until), self.sample(), self.look())]
        # The first calm moment when everything has been used, then one at the end of each quarter.
        moments = [min(300, self.seconds / 4), *(self.seconds * quarter / 4 for quarter in (1, 2, 3) if self.seconds > 1300)]
        for moment in sorted(set(moments)):
            await self.pause(self.began + moment)
            await self.calm_moment(f"after {moment / 60:.1f} min")
            self.load.going.set()
        await self.pause(until)
        await self.end()

    async def pause(self, until: float) -> None:
        while now() < until:
            await asyncio.sleep(min(5, max(0.0, until - now())))
            for task in self.tasks:
                if task.done() and task.exception():
                    raise Failed(f"the rig itself failed: {task.exception()!r}") from task.exception()
            if (code := self.gateway.process.poll()) is not None:
                raise Failed(f"the gateway ended with {code}: {self.gateway.log.read_text()[-2000:]}")

    async def warm_up(self) -> None:
        """Everything that is there once and for all must be there before anything is compared with it."""
        for secure in (False, True) * 10:
            for path in ("/plain", "/streams"):
                link = await self.load.connect(secure=secure)
                await self.load.ask(link, Request("warm-up", path, "work 1"))
                link.close()
        self.level = await self.other_descriptors()
        say(f"descriptors that are no connections: {self.level}; {self.gateway.resident():.0f} MiB")

    async def other_descriptors(self) -> int:
        """Those of the gateway that are neither clients nor servers, as found most often."""
        found = []
        for _ in range(40):
            series = await self.gateway.metrics()
            counted = total(series, "turnwise_connections") + total(series, "turnwise_upstream_connections")
            found.append(self.gateway.descriptors() - int(counted))
            await asyncio.sleep(0.1)
        # Between the two looks, and while a server's health is asked for, it may be one more or less.
        return statistics.mode(found)

    async def look(self) -> None:
        while True:
            await asyncio.sleep(2)
            self.judge.look()

    def latencies(self) -> tuple[list[float], list[float], int]:
        with self.probed.open("rb") as file:
            file.seek(self.read_to)
            octets = file.read()
        octets = octets[: octets.rfind(b"\n") + 1]
        self.read_to += len(octets)
        lines = [json.loads(line) for line in octets.splitlines()]
        through = [line[1] * 1000 for line in lines if line[1] is not None]
        direct = [line[2] * 1000 for line in lines if line[2] is not None]
        return through, direct, sum(line[1] is None for line in lines)

    async def sample(self) -> None:
        cpu, at = self.gateway.cpu_seconds(), now()
        with (self.folder / "samples.csv").open("w") as file:
            file.write(",".join(SAMPLED) + "\n")
            while True:
                await asyncio.sleep(10)
                series = await self.gateway.metrics()
                through, direct, failures = self.latencies()
                cpu_now, at_now = self.gateway.cpu_seconds(), now()
                fds = self.gateway.descriptors()
                counted = total(series, "turnwise_connections") + total(series, "turnwise_upstream_connections")
                waiting = [int(total(series, "turnwise_waiting_requests", queue=queue)) for queue in ("turn", "rate", "place")]
                values = [
                    round(at_now - self.began, 1), round(self.gateway.resident(), 2), fds,
                    self.gateway.status("Threads"), round((cpu_now - cpu) / (at_now - at) * 100, 1), *quantiles(through), *quantiles(direct), failures,
                    int(total(series, "turnwise_in_flight_requests")), *waiting, int(total(series, "turnwise_queue_bytes")),
                    int(total(series, "turnwise_sessions_active")), int(total(series, "turnwise_rate_limit_keys")),
                    int(total(series, "turnwise_connections")), int(total(series, "turnwise_upstream_connections")),
                    int(total(series, "turnwise_permit_leaks_total")), int(total(series, "turnwise_config_generation")),
                    int(total(series, "turnwise_upstream_healthy")), fds - int(counted), self.load.sent,
                    sum(self.judge.violations.values()),
                ]  # fmt: skip
                cpu, at = cpu_now, at_now
                self.samples.append(dict(zip(SAMPLED, values)))
                file.write(",".join(map(str, values)) + "\n")
                file.flush()
                if len(self.samples) % 30 == 0:
                    say(" ".join(f"{name}={value}" for name, value in self.samples[-1].items()))

    async def calm_moment(self, name: str) -> dict:
        """The load rests, and nothing may be left of it but open connections."""
        self.load.going.clear()
        async with self.chaos.lock:
            deadline = now() + PATIENCE + 10
            while self.load.active and now() < deadline:
                await asyncio.sleep(0.1)
            self.check(f"calm {name}: all clients have their answers", not self.load.active, self.load.active)
            await self.gauges_are_zero(f"calm {name}: all gauges are zero")
            # Memory goes back to the system seconds after a burst; connections to servers close when idle.
            await asyncio.sleep(15)
            rss = []
            for _ in range(5):
                rss.append(self.gateway.resident())
                await asyncio.sleep(0.5)
            series = await self.gateway.metrics()
            others = await self.other_descriptors()
            moment = {
                "moment": name,
                "rss_mib": round(statistics.median(rss), 2),
                "connections": int(total(series, "turnwise_connections")),
                "upstream_connections": int(total(series, "turnwise_upstream_connections")),
                "other_fds": others,
                "threads": self.gateway.status("Threads"),
                "rate_limit_keys": int(total(series, "turnwise_rate_limit_keys")),
                "leaks": int(total(series, "turnwise_permit_leaks_total")),
            }
            self.calm.append(moment)
            self.check(f"calm {name}: descriptors as at the start", others <= self.level, others, self.level)
            self.check(f"calm {name}: no permit leaked", not moment["leaks"], moment["leaks"])
            say(f"calm {moment}")
            return moment

    async def gauges_are_zero(self, what: str) -> None:
        deadline = now() + 60
        while (left := restless(await self.gateway.metrics())) and now() < deadline:
            await asyncio.sleep(0.2)
        # The probe goes on, on a route without turns or places; between two of its requests there is nothing.
        self.check(what, not left, left)

    async def end(self) -> None:
        if self.chaos.values is not BASE:
            async with self.chaos.lock:
                await self.chaos.install(BASE)
        last = await self.calm_moment("at the end")
        grown = last["rss_mib"] - self.calm[0]["rss_mib"]
        self.check(f"memory has grown by at most 10 MiB since {self.calm[0]['moment']}", grown <= 10, f"{grown:.2f} MiB")
        self.load.over = True
        self.load.going.set()
        for task in self.load.tasks:
            task.cancel()
        await asyncio.gather(*self.load.tasks, return_exceptions=True)
        self.probe.terminate()
        self.probe.wait(SOON)
        failures = sum(sample["probe_failures"] for sample in self.samples)
        self.check("the quiet route was always served", not failures, failures)
        self.load.close_all()
        await self.exactly_the_limit("/plain", "/streams", BASE["all"])
        await self.exactly_the_limit("/plain", "/plain", BASE["agents"])
        await self.exactly_the_limit("/streams", "/streams", BASE["streams"])
        self.load.close_all()
        await self.gauges_are_zero("at the end: all gauges are zero")
        await asyncio.sleep(HORIZON)
        self.judge.look(everything=True)
        others = await self.other_descriptors()
        series = await self.gateway.metrics()
        connected = total(series, "turnwise_connections")
        self.check("at the end: no client is connected", not connected, connected)
        self.check("at the end: descriptors as at the start", others <= self.level, others, self.level)
        leaks = total(series, "turnwise_permit_leaks_total")
        self.check("at the end: no permit leaked", not leaks, leaks)
        self.final["metrics"] = {
            " ".join([name, *(f"{key}={word}" for key, word in labels.items() if key != "server")]): value
            for name, labels, value in series
            if value and not name.endswith(("_bucket", "_sum")) and name.startswith("turnwise_")
        }
        for task in self.tasks:
            task.cancel()
        self.gateway.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.gateway.process.wait, 60)
        self.check("SIGTERM ends it with 0", code == 0, code)
        self.read_log()

    async def exactly_the_limit(self, first: str, second: str, limit: int) -> None:
        gate = self.folder / f"gate-{random.getrandbits(32)}"
        running = waiting = 0
        tasks = []
        for path in (first, second) * 30:
            link = await self.load.connect()
            tasks.append(asyncio.create_task(self.load.ask(link, Request("at once", path, f"hold {gate}"))))
        deadline = now() + SOON
        try:
            while now() < deadline:
                self.judge.read()
                running = len(self.judge.open)
                waiting = int(total(await self.gateway.metrics(), "turnwise_waiting_requests", queue="place"))
                if running + waiting == 60 and running >= limit:
                    break
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            self.judge.read()
            running = len(self.judge.open)
            self.check(f"exactly {limit} of {first} and {second} run at once", running == limit, running, "waiting", waiting)
        finally:
            gate.touch()
        answers = await asyncio.gather(*tasks)
        others = [answer.status for answer in answers if answer.status != 200]
        self.check("and then all are served", not others, others)

    def read_log(self) -> None:
        levels: collections.Counter = collections.Counter()
        for line in self.gateway.log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                levels["not JSON: " + line[:100]] += 1
                continue
            message = (entry.get("fields") or entry).get("message", "")
            levels[f"{entry.get('level')} {re.sub('[0-9]+', 'N', message)[:90]}"] += 1
        self.final["log"] = dict(levels.most_common(60))
        bad = {name: number for name, number in levels.items() if name.startswith(("ERROR", "not JSON")) or "panicked" in name}
        allowed = {name for name in bad if "policy" in name or "reload" in name}
        self.check("the log tells of no fault", not (bad.keys() - allowed), bad)

    def stop(self) -> None:
        """Whatever happened, no process stays."""
        for process in [self.probe, getattr(self.gateway, "process", None), *(agent.process for agent in self.agents)]:
            if process and process.poll() is None:
                process.kill()
                process.wait(SOON)

    def report(self) -> None:
        say("requests by kind and outcome")
        for (kind, outcome), number in sorted(self.judge.outcomes.items()):
            print(f"  {kind:<18} {outcome:<55} {number:>8}")
        say("chaos: " + ", ".join(f"{kind} {number}" for kind, number in sorted(self.chaos.events.items())))
        say("figures: " + json.dumps(dict(sorted(self.judge.figures.items())), indent=1))
        say(f"most at once: {dict(self.judge.peaks)}")
        quarters = self.quarters()
        for quarter in quarters:
            print("  " + "  ".join(f"{name}={value}" for name, value in quarter.items()))
        if len(quarters) == 4:
            first, last = quarters[0], quarters[3]
            names = ("probe_p50_ms", "probe_p95_ms", "direct_p50_ms", "direct_p95_ms")
            ratio = {name: round(last[name] / first[name], 2) for name in names if first[name]}
            say(f"the last quarter to the first: {ratio}")
        for moment in self.calm:
            print(f"  calm {moment}")
        say(f"log: {json.dumps(self.final.get('log', {}), indent=1)}")
        say(f"violations: {json.dumps(dict(self.judge.violations), indent=1)}")
        outcomes = {f"{kind}: {outcome}": number for (kind, outcome), number in sorted(self.judge.outcomes.items())}
        summary = {
            "outcomes": outcomes, "chaos": dict(self.chaos.events), "figures": dict(self.judge.figures), "quarters": quarters,
            "calm": self.calm, "violations": dict(self.judge.violations), "peaks": dict(self.judge.peaks), **self.final,
        }  # fmt: skip
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=1))

    def quarters(self) -> list[dict]:
        rows = []
        for quarter in range(4):
            part = [row for row in self.samples if int(row["seconds"] * 4 / self.seconds) == quarter]
            if not part:
                continue
            row = {"quarter": quarter + 1}
            for name in SAMPLED[1:9] + ("other_fds", "rate_limit_keys", "connections"):
                values = [sample[name] for sample in part if sample[name] is not None]
                row[name] = round(statistics.median(values), 2) if values else None
            row["rss_max"] = max(sample["rss_mb"] for sample in part)
            row["fds_max"] = max(sample["fds"] for sample in part)
            row["requests"] = part[-1]["sent"] - part[0]["sent"]
            rows.append(row)
        return rows


def quantiles(values: list[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    values = sorted(values)
    return round(values[len(values) // 2], 2), round(values[min(len(values) - 1, int(len(values) * 0.95))], 2)


async def all_of_it(run: Run) -> None:
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await run.run()


async def main_async(options: argparse.Namespace, folder: pathlib.Path) -> int:
    run = Run(options, folder)
    try:
        await all_of_it(run)
    except Failed as failed:
        run.judge.violation(f"the run: {failed}")
    finally:
        run.stop()
        run.report()
    return 1 if run.judge.violations else 0


def main() -> int:
    if sys.argv[1:2] == ["--agent"]:
        host, port = sys.argv[3].rsplit(":", 1)
        asyncio.run(Agent(sys.argv[2]).serve(host, int(port)))
        return 0
    if sys.argv[1:2] == ["--probe"]:
        probe(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the turnwise binary")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of what clients and chaos choose; not of when things happen")
    parser.add_argument("--folder", help="for what it writes; default: a new one")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.getrandbits(32)
    random.seed(seed)
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="endurance-"))
    folder.mkdir(parents=True, exist_ok=True)
    say(f"seed {seed}, {options.minutes} minutes, folder {folder}")
    began = now()
    code = asyncio.run(main_async(options, folder))
    say(f"{'everything held' if code == 0 else 'NOT everything held'}, {(now() - began) / 60:.1f} min")
    return code


if __name__ == "__main__":
    sys.exit(main())
