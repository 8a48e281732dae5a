"""Clients that are slow, many, or gone."""

import selectors
import socket
import struct
import threading
import time

from claims import comes_true
from hostile.client import Client, Nonsense, ask, get

CONNECTIONS = 60

POLICY = f"""\
server: {{ max_header_bytes: 16KiB, header_timeout: 1s, keep_alive_timeout: 1s, max_connections: {CONNECTIONS} }}
limits: {{ fair_by: null }}
upstreams:
  agents: {{ servers: ["http://{{upstream}}"] }}
defaults:
  body_limit: 64KiB
  abandoned_limit: 3s
  timeouts: {{ request: 1s, response: 5s, idle: 1s, total: 4s }}
routes:
  - {{ name: keyed, match: {{ path_prefix: /keyed }}, upstream: agents, session: {{ key: [{{ json: /session_id }}] }} }}
  - {{ name: all, upstream: agents }}
"""

CASES: list = []


def case(run):
    CASES.append((run.__doc__, run))
    return run


def drip(address: str, begin: bytes, octet: bytes, count: int, seconds: float = 10) -> list[int | None]:
    """Opens `count` connections, says `begin` and then an octet ten times a second; the status that each got, None where it
    was closed without one, -1 where it was held for longer than `seconds`."""
    clients = [Client(address, seconds) for _ in range(count)]
    for client in clients:
        client.send(begin)
    statuses: dict[Client, int | None] = {}
    deadline = time.monotonic() + seconds
    while len(statuses) < count and time.monotonic() < deadline:
        for client in clients:
            if client in statuses:
                continue
            client.send(octet)
            try:
                answer = client.answer(seconds=0.002)
                while answer and answer.status == 200:
                    answer = client.answer(seconds=0.002)
                statuses[client] = answer.status if answer else None
            except TimeoutError:
                pass
        time.sleep(0.1)
    for client in clients:
        client.close()
    return [statuses.get(client, -1) for client in clients]


def ended(statuses: list, right: set) -> list[str]:
    wrong = [status for status in statuses if status not in right]
    return [f"{len(wrong)} of {len(statuses)} got {sorted(set(map(str, wrong)))}"] if wrong else []


def never_closed(clients: list[Client]) -> list[str]:
    """Waits for the gateway to close each."""
    still_open = sum(not client.closed(10) for client in clients)
    for client in clients:
        client.close()
    return [f"{still_open} of {len(clients)} were never closed"] if still_open else []


@case
def heads(gateway, recorder):
    """40 heads that come octet by octet; others are served meanwhile"""
    problems: list[str] = []
    thread = threading.Thread(target=lambda: problems.extend(ended(drip(gateway.public, b"GET /c HTTP/1.1\r\nHost: a.example\r\nX: ", b"y", 40), {408})))
    thread.start()
    asked = 0
    while thread.is_alive():
        answer = ask(gateway.public, "/meanwhile")
        if answer is None or answer.status != 200:
            problems.append("nobody else was served")
        asked += 1
        time.sleep(0.05)
    if not asked:
        problems.append("nobody else was there: this shows nothing")
    return problems


@case
def second_heads(gateway, recorder):
    """second heads on connections that were served"""
    return ended(drip(gateway.public, get("/c") + b"GET /c HTTP/1.1\r\nHost: a.example\r\nX: ", b"y", 10), {408})


@case
def first_lines(gateway, recorder):
    """request lines that come octet by octet"""
    return ended(drip(gateway.public, b"GET /", b"y", 10), {408})


@case
def prefaces(gateway, recorder):
    """half a preface of HTTP/2, and then nothing"""
    return ended(drip(gateway.public, b"PRI * HTTP/2.0\r\n\r\nS", b"", 10), {400, 408, None})


@case
def bodies(gateway, recorder):
    """bodies of a length that come octet by octet"""
    return ended(drip(gateway.public, b"POST /c HTTP/1.1\r\nHost: a.example\r\nContent-Length: 50000\r\n\r\n", b"y", 20), {408})


@case
def chunked_bodies(gateway, recorder):
    """bodies in chunks of one octet, without end"""
    return ended(drip(gateway.public, b"POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n", 20), {408})


@case
def keyed_bodies(gateway, recorder):
    """bodies that hold the session key, octet by octet"""
    return ended(drip(gateway.public, b"POST /keyed HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\nContent-Length: 50000\r\n\r\n{", b" ", 20), {408})


@case
def silence(gateway, recorder):
    """40 connections on which nothing is said"""
    return never_closed([Client(gateway.public) for _ in range(40)])


@case
def kept_alive(gateway, recorder):
    """20 connections on which nothing more is said"""
    clients = [Client(gateway.public) for _ in range(20)]
    for client in clients:
        client.send(get("/c"))
    return ended([client.answer().status for client in clients], {200}) + never_closed(clients)


@case
def empty_lines(gateway, recorder):
    """empty lines before a request, without end"""
    return ended(drip(gateway.public, b"", b"\r\n", 10, 15), {400, 408, None})


@case
def stalled_readers(gateway, recorder):
    """10 readers who take nothing of a large answer"""
    clients = [Client(gateway.public, receive_buffer=4096) for _ in range(10)]
    for client in clients:
        client.send(get("/large"))
    problems = [] if recorder.wait(lambda it: it.running == 10, 10) else [f"only {recorder.running} of 10 reached the upstream"]
    if not recorder.wait(lambda it: it.running == 0, 15):
        problems.append(f"{recorder.running} of 10 stalled answers are still at the upstream")
    for client in clients:
        client.close()
    return problems


@case
def dripping_readers(gateway, recorder):
    """5 readers who take a large answer little by little"""
    clients = [Client(gateway.public, receive_buffer=4096) for _ in range(5)]
    for client in clients:
        client.send(get("/large"))
    recorder.wait(lambda it: it.running == 5, 10)
    deadline = time.monotonic() + 15
    while recorder.running and time.monotonic() < deadline:
        for client in clients:
            client.stream.settimeout(0.01)
            try:
                client.stream.recv(512)
            except OSError:
                pass
        time.sleep(0.1)
    problems = [f"{recorder.running} of 5 outlived the time for all of it"] if recorder.running else []
    for client in clients:
        client.close()
    return problems


@case
def more_connections_than_allowed(gateway, recorder):
    """100 connections where 60 may be: the others wait in the backlog"""
    clients = [Client(gateway.public, 30) for _ in range(100)]
    recorder.peak, most = 0, 0.0
    for client in clients:
        client.send(get("/pause", "Connection: close\r\n"))
    statuses = []
    for client in clients:
        answer = client.answer()
        statuses.append(answer.status if answer else None)
        most = max(most, gateway.sum("turnwise_connections"))
        client.close()
    problems = ended(statuses, {200})
    if recorder.peak > CONNECTIONS or most > CONNECTIONS:
        problems.append(f"{recorder.peak} requests and {most:g} connections at once")
    if recorder.peak < CONNECTIONS // 2:
        problems.append(f"only {recorder.peak} requests at once: this shows nothing")
    return problems


@case
def aborted(gateway, recorder):
    """300 clients that reset their connection right behind their request"""
    for number in range(300):
        client = Client(gateway.public)
        client.send(get("/pause") if number % 3 else b"POST /c HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nx")
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    return []


@case
def tiny_chunks(gateway, recorder):
    """a body in 60,000 chunks of one octet"""
    client = Client(gateway.public, 20)
    client.send(b"POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\ny\r\n" * 60_000 + b"0\r\n\r\n")
    answer = client.answer()
    client.close()
    return [] if answer and answer.status in (200, 408) else [f"got {answer and answer.status}"]


@case
def pouring(gateway, recorder):
    """endless octets behind a request that was refused"""
    client = Client(gateway.public)
    client.send(b"GET /c HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n")
    sent, piece = 0, b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n" * 1000
    while sent < 256 * 1024 * 1024 and client.send(piece):
        sent += len(piece)
    problems = ["took 256 MiB without an end"] if sent >= 256 * 1024 * 1024 else []
    client.close()
    if any("/smuggled" in one.target for one in recorder.requests):
        problems.append("what stood behind it was served")
    return problems


@case
def pipelined(gateway, recorder):
    """2,000 requests in one piece, and none of the answers read"""
    client = Client(gateway.public, receive_buffer=4096)
    client.stream.setblocking(False)
    octets, selector = get("/c") * 2000, selectors.DefaultSelector()
    selector.register(client.stream, selectors.EVENT_WRITE)
    deadline = time.monotonic() + 3
    while octets and time.monotonic() < deadline:
        if selector.select(0.1):
            try:
                octets = octets[client.stream.send(octets) :]
            except OSError:
                break
    has_ended = comes_true(lambda: gateway.sum("turnwise_connections") == 0, 10, 0.1)
    client.close()
    return [] if has_ended else ["its connection was never ended"]


@case
def large_heads(gateway, recorder):
    """50 heads of nearly 16 KiB that do not end"""
    memory = gateway.resident()
    clients = [Client(gateway.public) for _ in range(50)]
    for client in clients:
        client.send(b"GET /c HTTP/1.1\r\nHost: a.example\r\nX: " + b"y" * 16_000)
    statuses = []
    for client in clients:
        try:
            answer = client.answer()
            statuses.append(answer.status if answer else None)
        except (TimeoutError, Nonsense):
            statuses.append(-1)
        client.close()
    grown = gateway.resident() - memory
    return ended(statuses, {408}) + ([f"50 heads took {grown:.0f} MiB"] if grown > 32 else [])


def run(gateway, recorder) -> tuple[int, int, list[str], list[str]]:
    failures, clean = [], 0
    recorder.take()
    memory = gateway.resident()
    notes = []
    for name, attack in CASES:
        began, cpu = time.monotonic(), gateway.cpu_seconds()
        try:
            problems = attack(gateway, recorder)
        except (TimeoutError, Nonsense, AttributeError) as problem:
            problems = [repr(problem)]
        problems = problems + gateway.afterwards()
        # What an aborted client leaves half said is cut, and no fault.
        problems += recorder.take()[1]
        notes.append(f"{name}: {time.monotonic() - began:.1f} s, {gateway.cpu_seconds() - cpu:.2f} s of CPU")
        if problems:
            failures.append(f"{name}: {'; '.join(problems)}")
        clean += not problems
    grown = gateway.resident() - memory
    notes.append(f"{grown:+.0f} MiB after all of it")
    if grown > 96:
        failures.append(f"{grown:.0f} MiB more than before")
    return len(CASES), clean, failures, notes
