"""Clients that do what wrk cannot: wait, stay, read event streams, send and take large bodies."""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from origin import MARK

READ = 1 << 18
PIECE = memoryview(bytes(1 << 18))


def request(method: str, path: str, session: str, body: bytes = b"", length: int | None = None) -> bytes:
    """A request as octets. With `length` the body is sent by the caller."""
    size = len(body) if length is None else length
    sized = f"Content-Type: application/json\r\nContent-Length: {size}\r\n" if size else ""
    return f"{method} {path} HTTP/1.1\r\nHost: bench\r\nX-Session-Id: {session}\r\n{sized}\r\n".encode() + body


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def body_size(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without a length: {head!r}")


def whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= body_size(head)


class Fleet:
    """Many connections that stay open."""

    def __init__(self, port: int, size: int) -> None:
        self._socks: list[socket.socket] = []
        try:
            for _ in range(size):
                self._socks.append(connect(port))
        except BaseException:
            self.close()
            raise

    def send(self, make: Callable[[int], bytes]) -> None:
        """Request number n of `make` on connection n."""
        for number, sock in enumerate(self._socks):
            sock.sendall(make(number))

    def one_by_one(self, make: Callable[[int], bytes]) -> Counter[str]:
        """As `send` and `collect`, but each request only when the one before has its answer.

        The proxy then needs one connection to its server, and what grows is what clients' connections cost.
        """
        seen: Counter[str] = Counter()
        for number, sock in enumerate(self._socks):
            sock.sendall(make(number))
            got = b""
            while not whole(got) and (piece := sock.recv(READ)):
                got += piece
            seen[got[9:12].decode() or "closed"] += 1
        return seen

    def collect(self, seconds: float) -> Counter[str]:
        """One whole answer from each connection, counted by status; what has none by then counts as `none`."""
        poll = select.epoll()
        waiting = {sock.fileno(): (sock, b"") for sock in self._socks}
        for fd in waiting:
            poll.register(fd, select.EPOLLIN)
        seen: Counter[str] = Counter()
        deadline = time.monotonic() + seconds
        while waiting and time.monotonic() < deadline:
            for fd, _ in poll.poll(0.1):
                sock, got = waiting[fd]
                try:
                    piece = sock.recv(READ)
                except OSError:
                    piece = b""
                got += piece
                if not piece or whole(got):
                    seen[got[9:12].decode() if piece else "closed"] += 1
                    del waiting[fd]
                    poll.unregister(fd)
                else:
                    waiting[fd] = (sock, got)
        poll.close()
        if waiting:
            seen["none"] += len(waiting)
        return seen

    def close(self) -> None:
        for sock in self._socks:
            sock.close()
        self._socks = []


def problem_of(seen: Counter[str]) -> str:
    """What a row says of answers that are not 200."""
    return ", ".join(f"{count} answers were {status}" for status, count in sorted(seen.items()) if status != "200")


@dataclass
class Streamed:
    """What arrived of many event streams."""

    events: int = 0
    reads: int = 0
    ended: int = 0
    closed: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)


def read_streams(
    port: int, count: int, path: Callable[[int], str], seconds: float, look_at: list[float], look: Callable[[], int]
) -> Streamed:
    """Opens `count` streams and reads them to their ends, for `seconds` at the most.

    `look` is called at the times of `look_at`, in seconds from when all were opened; `marks` holds what it said, each
    with the number of events that had come by then.
    """
    result = Streamed()
    poll = select.epoll()
    open_streams: dict[int, socket.socket] = {}
    tails: dict[int, bytes] = {}
    for number in range(count):
        sock = connect(port)
        sock.sendall(request("GET", path(number), f"stream{number}"))
        sock.setblocking(False)
        open_streams[sock.fileno()] = sock
        tails[sock.fileno()] = b""
        poll.register(sock, select.EPOLLIN)
    begin = time.monotonic()
    looks = sorted(look_at)
    while open_streams and (passed := time.monotonic() - begin) < seconds:
        if looks and passed >= looks[0]:
            looks.pop(0)
            result.marks.append((look(), result.events))
        for fd, _ in poll.poll(0.02):
            try:
                piece = open_streams[fd].recv(READ)
            except BlockingIOError:
                continue
            except OSError:
                piece = b""
            result.reads += 1
            result.events += piece.count(MARK)
            tails[fd] = (tails[fd] + piece)[-5:]
            if not piece or tails[fd] == b"0\r\n\r\n":
                result.ended += bool(piece)
                result.closed += not piece
                poll.unregister(fd)
                open_streams.pop(fd).close()
    for sock in open_streams.values():
        sock.close()
    poll.close()
    return result


def first_event_us(port: int, times: int) -> list[float]:
    """From the sending of a request to the first octet of an event, one request after another on one connection."""
    taken = []
    ask = request("GET", "/origin/events?count=1&every_us=200", "first")
    with connect(port) as sock:
        for _ in range(times):
            begin = time.perf_counter()
            sock.sendall(ask)
            got = sock.recv(READ)
            while MARK not in got:
                got += sock.recv(READ)
            taken.append((time.perf_counter() - begin) * 1e6)
            while not got.endswith(b"0\r\n\r\n"):
                got += sock.recv(READ)
    return taken


def upload(port: int, session: str, size: int) -> str:
    """Sends one large body. What went wrong, or nothing."""
    with connect(port) as sock:
        sock.sendall(request("POST", "/origin/sink", session, length=size))
        left = size
        while left:
            left -= sock.send(PIECE[:left])
        got = b""
        while not whole(got):
            piece = sock.recv(READ)
            if not piece:
                return "connection closed before the answer"
            got += piece
    good = got.startswith(b"HTTP/1.1 200") and got.endswith(b"\r\n\r\n%d" % size)
    return "" if good else f"answer {got[:60]!r}"


def download(port: int, session: str, size: int) -> str:
    """Takes one large body. What went wrong, or nothing."""
    with connect(port) as sock:
        sock.sendall(request("GET", f"/origin/blob?bytes={size}", session))
        got = b""
        while b"\r\n\r\n" not in got:
            piece = sock.recv(READ)
            if not piece:
                return "connection closed before the answer"
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return f"answer {head[:60]!r}"
        left = size - len(body)
        buffer = bytearray(READ)
        while left:
            taken = sock.recv_into(buffer)
            if not taken:
                return f"cut off {left} octets before the end"
            left -= taken
    return ""


def transfer(one: Callable[[int, str, int], str], port: int, size: int, times: int, at_once: int = 4) -> str:
    """Several large bodies, some at once. The first thing that went wrong, or nothing."""
    with ThreadPoolExecutor(at_once) as pool:
        problems = pool.map(lambda number: one(port, f"large{number}", size), range(times))
        return next((problem for problem in problems if problem), "")
