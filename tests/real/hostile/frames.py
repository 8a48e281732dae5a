"""HTTP/2 by hand: frames and header blocks as wrong as they are wanted, and a connection that says what came back."""

import dataclasses
import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x4, 0x8, 0x20
ACK = 0x1
BOTH = END_STREAM | END_HEADERS


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def number(value: int, bits: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    octets, value = [first | most], value - most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes(octets + [value])


def text(value: str) -> bytes:
    octets = value.encode("latin-1")
    return number(len(octets), 7) + octets


def block(*fields: tuple[str, str]) -> bytes:
    """Literal fields, which nobody indexes."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def pseudo(method="GET", path="/c", scheme="http", authority="a.example") -> list[tuple[str, str]]:
    """The pseudo-fields of a request; None leaves one out."""
    given = {":method": method, ":scheme": scheme, ":authority": authority, ":path": path}
    return [(name, value) for name, value in given.items() if value is not None]


def request(stream: int = 1, *fields: tuple[str, str], end: bool = True, **own) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM * end, stream, block(*pseudo(**own), *fields))


def setting(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


@dataclasses.dataclass
class Stream:
    status: int | None = None
    fields: list = dataclasses.field(default_factory=list)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None


class Http2:
    """A connection. It acknowledges and gives way, unless told not to."""

    def __init__(self, address: str, settings: bytes = setting(), window: bool = True, receive_buffer: int | None = None):
        host, port = address.rsplit(":", 1)
        self.stream = socket.socket()
        if receive_buffer:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.stream.settimeout(10)
        self.stream.connect((host, int(port)))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.streams: dict[int, Stream] = {}
        self.unread, self.partial = b"", b""
        self.goaway: int | None = None
        self.closed = False
        self.window = window
        self.pongs = 0
        self.greeted = False
        self.send(PREFACE + settings)

    def send(self, octets: bytes) -> bool:
        try:
            self.stream.settimeout(10)
            self.stream.sendall(octets)
            return True
        except OSError:
            return False

    def at(self, stream: int) -> Stream:
        return self.streams.setdefault(stream, Stream())

    def pump(self, until, seconds: float = 5) -> bool:
        """Reads until `until()`; whether it came to that."""
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if self.closed or left <= 0:
                return False
            self.stream.settimeout(left)
            try:
                piece = self.stream.recv(65536)
            except TimeoutError:
                return False
            except OSError:
                piece = b""
            if not piece:
                self.closed = True
            self.unread += piece
            while len(self.unread) >= 9:
                length = int.from_bytes(self.unread[:3], "big")
                if len(self.unread) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.unread[3:9])
                payload, self.unread = self.unread[9 : 9 + length], self.unread[9 + length :]
                self.receive(kind, flags, stream, payload)
        return True

    def receive(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        own = self.at(stream)
        if kind == SETTINGS and not flags & ACK:
            self.greeted = True
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING:
            if flags & ACK:
                self.pongs += 1
            else:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            code = struct.unpack(">I", payload[4:8])[0]
            # A connection that ends orderly says so first; an error counts.
            self.goaway = code if code or self.goaway is None else self.goaway
        elif kind == RST_STREAM:
            own.reset = struct.unpack(">I", payload)[0]
        elif kind in (HEADERS, CONTINUATION):
            self.partial += payload
            if flags & END_HEADERS:
                fields, self.partial = self.decoder.decode(self.partial), b""
                own.fields += fields
                for name, value in fields:
                    if name == ":status" and int(value) >= 200:
                        own.status = int(value)
            own.ended |= kind == HEADERS and bool(flags & END_STREAM)
        elif kind == DATA:
            own.data += payload
            own.ended |= bool(flags & END_STREAM)
            if payload and self.window:
                more = struct.pack(">I", len(payload))
                self.send(frame(WINDOW_UPDATE, 0, 0, more) + (b"" if own.ended else frame(WINDOW_UPDATE, 0, stream, more)))

    def over(self, stream: int = 1) -> bool:
        own = self.at(stream)
        return own.ended or own.reset is not None or self.broken()

    def not_over(self, streams, seconds: float) -> int:
        """Reads until all of these are over; how many are not."""
        self.pump(lambda: all(map(self.over, streams)), seconds)
        return sum(not self.over(stream) for stream in streams)

    def broken(self) -> bool:
        return self.closed or bool(self.goaway)

    def outcome(self, stream: int = 1) -> str:
        own = self.at(stream)
        said = []
        if own.status:
            said.append(f"status {own.status}")
        if own.reset is not None:
            said.append(f"reset {own.reset}")
        if self.goaway is not None:
            said.append(f"goaway {self.goaway}")
        if self.closed:
            said.append("closed")
        return ", ".join(said) or "nothing"

    def close(self) -> None:
        self.stream.close()
