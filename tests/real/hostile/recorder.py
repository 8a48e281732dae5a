"""An upstream that records exactly the octets that reach it, and reads them more strictly than any server would.

What it finds wrong is the judgement of this test: a gateway's word for it is never taken. It answers each whole request
with its own request line, so that an answer which goes to the wrong request is seen.
"""

import dataclasses
import re
import socket
import threading
import time

from claims import comes_true

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
# RFC 3986: what may stand in a path or a query, and nothing else.
TARGET = re.compile(rb"(?:\*|/[!$&'()*+,./0-9:;=?@A-Z\\_a-z~%|^`{}\"<>\[\]-]*)\Z")
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]+)(?::[0-9]*)?\Z")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
# What RFC 9110 and 9112 leave other proxies to forward: control octets in values (section 5.5), absolute targets.
LENIENT_VALUE = re.compile(rb"[^\r\n\0]*\Z")
LENIENT_TARGET = re.compile(rb"(?:\*|(?:[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\x00-\x20]+)?[/?][^#\x00-\x20\x7f-\xff]*|[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\x00-\x20]+)\Z")
# Fields that end at a connection; the gateway's own connection to this upstream needs none of them.
OF_CONNECTION = {b"keep-alive", b"proxy-connection", b"http2-settings", b"proxy-authorization", b"transfer_encoding"}
# Some servers read `_` as `-`.
MISSPELT = {b"content_length", b"transfer_encoding", b"x_forwarded_for", b"x_request_id", b"x_session_id", b"x_api_key"}
# More than all buffers between here and a client hold.
LARGE = 24 * 1024 * 1024
FRAMES = {b"content-length", b"transfer-encoding", b"host", b"trailer", b"connection"}


class Unsound(Exception):
    """Octets that a strict reader refuses."""


@dataclasses.dataclass
class Seen:
    """A request that reached the upstream, whole or cut."""

    method: str
    target: str
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    whole: bool = False
    version: bytes = b"HTTP/1.1"
    trailers: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)

    def all(self, name: str) -> list[bytes]:
        return [value for own, value in self.fields if own.lower() == name.encode()]

    def __str__(self) -> str:
        body = f" {self.body!r}" if self.body else ""
        return f"{self.method} {self.target}{body}{'' if self.whole else ' (cut)'}"


def parse_head(head: bytes, strict: bool = True) -> Seen:
    """Reads a head without its last empty line."""
    lines = head.split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise Unsound("a bare carriage return or line feed in a head")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Unsound(f"the request line {lines[0]!r}")
    method, target, version = parts
    if not TOKEN.match(method):
        raise Unsound(f"the method {method!r}")
    if not (TARGET if strict else LENIENT_TARGET).match(target):
        raise Unsound(f"the target {target!r}")
    fields = [parse_field(line, strict) for line in lines[1:]]
    return Seen(method.decode(), target.decode("latin-1"), fields, version=version)


def parse_field(line: bytes, strict: bool = True) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not TOKEN.match(name):
        raise Unsound(f"the field {line!r}")
    if not (VALUE if strict else LENIENT_VALUE).match(value):
        raise Unsound(f"the value of {line!r}")
    return name, value.strip(b" \t")


def framing(seen: Seen, strict: bool = True) -> int | None:
    """The length of the body; None for chunked. Says what is unsound about the fields that frame."""
    hosts, lengths, codings = seen.all("host"), seen.all("content-length"), seen.all("transfer-encoding")
    if not strict:
        codings = [coding.lower() for coding in codings]
    if not hosts and seen.version == b"HTTP/1.0" and not strict:
        pass
    elif len(hosts) != 1 or not HOST.match(hosts[0]):
        raise Unsound(f"the hosts {hosts}")
    if len(lengths) + len(codings) > 1:
        raise Unsound(f"the lengths {lengths} and codings {codings}")
    if lengths and not re.match(rb"[0-9]+\Z", lengths[0]):
        raise Unsound(f"the length {lengths[0]!r}")
    if codings and codings[0] != b"chunked":
        raise Unsound(f"the coding {codings[0]!r}")
    return None if codings else int(lengths[0]) if lengths else 0


def promises(seen: Seen) -> list[str]:
    """What the gateway promises beyond framing, and did not keep."""
    problems = []
    for name, value in seen.fields:
        name = name.lower()
        if name in OF_CONNECTION or name in MISSPELT:
            problems.append(f"the field {name.decode()}: {value!r} came through")
        if name == b"te" and value != b"trailers":
            problems.append(f"te: {value!r} came through")
    for name in ("x-request-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "traceparent"):
        if len(seen.all(name)) != 1:
            problems.append(f"{len(seen.all(name))} fields {name}")
    return problems


class Connection(threading.Thread):
    """One connection of the gateway's."""

    def __init__(self, recorder: "Recorder", stream: socket.socket):
        super().__init__(daemon=True)
        self.recorder, self.stream = recorder, stream
        self.octets = b""
        self.unread = b""

    def run(self) -> None:
        current, begun = None, False
        try:
            while True:
                current = None
                head = self.until(b"\r\n\r\n")
                if head is None:
                    if self.unread:
                        raise Unsound(f"half a head: {self.unread[:200]!r}")
                    return
                current = parse_head(head, self.recorder.strict)
                self.recorder.heads.append(current)
                self.recorder.begin(+1)
                begun = True
                length = framing(current, self.recorder.strict)
                if self.recorder.strict:
                    self.recorder.problems += [f"{current}: {problem}" for problem in promises(current)]
                if self.recorder.early and current.target.startswith("/early"):
                    self.answer(current)
                self.read_body(current, length)
                current.whole = True
                self.recorder.requests.append(current)
                if self.unread:
                    raise Unsound(f"octets beyond the end of {current}: {self.unread[:200]!r}")
                if not (self.recorder.early and current.target.startswith("/early")) and not self.answer(current):
                    return
                if begun and current.target.startswith("/large"):
                    self.recorder.begin(-1)
                begun = False
        except Unsound as problem:
            self.recorder.problems.append(str(problem))
            self.recorder.unsound += 1
        except OSError:
            if current is not None and not current.whole:
                self.recorder.cut.append(current)
        finally:
            if begun:
                self.recorder.begin(-1)
            self.recorder.octets.append(self.octets)
            self.stream.close()

    def answer(self, seen: Seen) -> bool:
        """Answers; whether the connection goes on."""
        return self.recorder.answer(self, seen)

    def read_body(self, seen: Seen, length: int | None) -> None:
        if length is not None:
            seen.body = self.exactly(length)
            return
        while True:
            line = self.until(b"\r\n")
            if line is None:
                raise OSError("cut")
            if not re.match(rb"[0-9A-Fa-f]{1,16}\Z", line):
                raise Unsound(f"the size of a chunk {line[:100]!r}")
            size = int(line, 16)
            if size == 0:
                break
            seen.body += self.exactly(size)
            if self.exactly(2) != b"\r\n":
                raise Unsound("a chunk without an end")
        while line := self.until(b"\r\n"):
            name, value = parse_field(line, self.recorder.strict)
            if name.lower() in FRAMES and self.recorder.strict:
                raise Unsound(f"the trailer {line!r}")
            seen.trailers.append((name, value))
        if line is None:
            raise OSError("cut")

    def more(self) -> bool:
        piece = self.stream.recv(65536)
        self.octets = (self.octets + piece)[-65536:]
        self.unread += piece
        return bool(piece)

    def until(self, end: bytes) -> bytes | None:
        while end not in self.unread:
            if not self.more():
                return None
        line, _, self.unread = self.unread.partition(end)
        return line

    def exactly(self, count: int) -> bytes:
        while len(self.unread) < count:
            if not self.more():
                raise OSError("cut")
        octets, self.unread = self.unread[:count], self.unread[count:]
        return octets


def own_line(connection: Connection, seen: Seen) -> bool:
    """The usual answer: the request line of what was asked."""
    text = f"{seen.method} {seen.target}\n".encode()
    if seen.target.startswith("/slow"):
        time.sleep(0.02)
    if seen.target.startswith("/pause"):
        time.sleep(0.3)
    if seen.target.endswith("/hold"):
        connection.recorder.release.wait(20)
    if seen.target.startswith("/large"):
        text = b"x" * LARGE
    else:
        # Before the last octet is sent: from then on the gateway may let the next one in.
        connection.recorder.begin(-1)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(text)
    connection.stream.sendall(head + (b"" if seen.method == "HEAD" else text))
    return True


class Recorder:
    """Listens, and keeps what came."""

    def __init__(self, address: str = "127.0.0.1:0", strict: bool = True, answer=own_line):
        host, port = address.rsplit(":", 1)
        self.listener = socket.create_server((host, int(port)), backlog=512)
        self.address = "%s:%d" % self.listener.getsockname()[:2]
        self.strict, self.answer, self.early = strict, answer, True
        self.requests: list[Seen] = []
        self.heads: list[Seen] = []
        self.cut: list[Seen] = []
        self.problems: list[str] = []
        self.octets: list[bytes] = []
        self.unsound = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.running = self.peak = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(self, stream).start()

    def begin(self, one: int) -> None:
        """Counts the requests that are here, as the gateway should: from the head to the last octet of the answer."""
        with self.lock:
            self.running += one
            self.peak = max(self.peak, self.running)

    def take(self) -> tuple[list[Seen], list[str]]:
        """The whole requests and the problems since the last time."""
        requests, self.requests = self.requests, []
        problems, self.problems = self.problems, []
        self.heads.clear()
        self.cut.clear()
        self.octets.clear()
        return requests, problems

    def wait(self, what, seconds: float = 20) -> bool:
        return bool(comes_true(lambda: what(self), seconds, 0.005))

    def close(self) -> None:
        self.listener.close()
