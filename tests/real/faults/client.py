"""Clients that can do what no client library would: leave, break off, half close, at any octet."""

import json
import socket
import time
import typing

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from claims import Failed, require

from .upstream import reset

TIMEOUT = 30


class Answer:
    """What a client got. `status` is None where there was no head; `whole` says whether the end was seen."""

    def __init__(self, status: int | None = None, fields: list | None = None, body: bytes = b"", whole: bool = False):
        self.status = status
        self.fields = fields or []
        self.body = body
        self.whole = whole
        self.interim = 0

    def field(self, name: str) -> str | None:
        return next((value for field, value in self.fields if field.lower() == name), None)

    def __str__(self) -> str:
        return f"{self.status} {'whole' if self.whole else 'cut'} {self.body[:200]!r}"

    def ok(self, body: bytes = b"ok") -> "Answer":
        require(self.status == 200 and self.whole and self.body == body, "not a whole 200", self)
        return self

    def problem(self, status: int, reason: str) -> "Answer":
        require(self.status == status and self.whole, f"not {status} {reason}", self)
        require(self.field("content-type") == "application/problem+json", "no problem document", self.fields)
        require(json.loads(self.body)["reason"] == reason, f"not {reason}", self)
        require("error=" in (self.field("proxy-status") or ""), "without Proxy-Status", self.fields)
        if status in (429, 503):
            require(int(self.field("retry-after") or 0) >= 1, "without Retry-After", self.fields)
        return self

    def cut(self, status: int = 200) -> "Answer":
        require(self.status == status and not self.whole, f"not {status} and visibly cut", self)
        return self


class Connection:
    """What both versions have in common."""

    def __init__(self, address: str, timeout: float = TIMEOUT, receive_buffer: int = 0):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def leave(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        reset(self.socket)


class Http1(Connection):
    name = "HTTP/1"

    def raw(self, octets: bytes) -> "Http1":
        self.socket.sendall(octets)
        return self

    def ask(
        self, target: str = "/", do: str = "answer", body: bytes | None = None, length: int | None = None, **fields: str
    ) -> "Http1":
        """Sends a request; with a `length` beyond that of the body only its beginning."""
        method = "GET" if body is None else "POST"
        named = {"Host": "agents", "X-Do": do, **{name.replace("_", "-"): value for name, value in fields.items()}}
        if body is not None:
            named["Content-Length"] = str(len(body) if length is None else length)
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return self.raw(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))

    def _more(self) -> bool:
        try:
            piece = self.socket.recv(65536)
        except TimeoutError:
            raise Failed("nothing came in time") from None
        except OSError:
            return False
        self.unread += piece
        return bool(piece)

    def until(self, octets: bytes) -> "Http1":
        while octets not in self.unread:
            require(self._more(), f"closed before {octets!r}", self.unread[-200:])
        return self

    def answer(self) -> Answer:
        interim = 0
        while True:
            while b"\r\n\r\n" not in self.unread:
                if not self._more():
                    return Answer(body=self.unread)
            head, self.unread = self.unread.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            if status >= 200 or status == 101:
                break
            interim += 1
        fields = [line.split(":", 1) for line in lines[1:]]
        answer = Answer(status, [(name.strip(), value.strip()) for name, value in fields])
        answer.interim = interim
        if status == 101:
            answer.whole = True
        elif answer.field("transfer-encoding"):
            self._chunks(answer)
        elif answer.field("content-length") is not None:
            self._length(answer, int(answer.field("content-length")))
        else:
            while self._more():
                pass
            answer.body, answer.whole, self.unread = self.unread, True, b""
        return answer

    def _length(self, answer: Answer, length: int) -> None:
        while len(self.unread) < length and self._more():
            pass
        answer.body, self.unread = self.unread[:length], self.unread[length:]
        answer.whole = len(answer.body) == length

    def _chunks(self, answer: Answer) -> None:
        while True:
            while b"\r\n" not in self.unread:
                if not self._more():
                    return
            line, self.unread = self.unread.split(b"\r\n", 1)
            size = int(line, 16)
            while len(self.unread) < size + 2:
                if not self._more():
                    answer.body += self.unread[:size]
                    return
            answer.body += self.unread[:size]
            self.unread = self.unread[size + 2 :]
            if not size:
                answer.whole = True
                return

    def is_closed(self) -> bool:
        """Waits for the other side to close."""
        while self._more():
            pass
        return True

    def shut(self) -> "Http1":
        """Says that there will be no more, and listens on."""
        self.socket.shutdown(socket.SHUT_WR)
        return self


class Http2(Connection):
    """With any number of streams. Nothing is read but in `pump`."""

    name = "HTTP/2"

    def __init__(self, address: str, timeout: float = TIMEOUT):
        super().__init__(address, timeout)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.ended: set[int] = set()
        self.going_away = False
        self.closed = False
        self.flush()

    def flush(self) -> None:
        if octets := self.http.data_to_send():
            self.socket.sendall(octets)

    def ask(
        self, target: str = "/", do: str = "answer", body: bytes | None = None, length: int | None = None, **fields: str
    ) -> int:
        method = "GET" if body is None else "POST"
        named = [(":method", method), (":path", target), (":scheme", "http"), (":authority", "agents"), ("x-do", do)]
        named += [(name.replace("_", "-").lower(), value) for name, value in fields.items()]
        stream = self.http.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.http.send_headers(stream, named, end_stream=body is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=length is None or length == len(body))
        self.flush()
        return stream

    def pump(self, until, timeout: float = TIMEOUT) -> None:
        """Reads until a condition holds, or the connection is closed."""
        deadline = time.monotonic() + timeout
        while not until() and not self.closed:
            left = deadline - time.monotonic()
            require(left > 0, "nothing came in time")
            self.socket.settimeout(left)
            try:
                octets = self.socket.recv(65536)
            except TimeoutError:
                raise Failed("nothing came in time") from None
            except OSError:
                octets = b""
            if not octets:
                self.closed = True
                return
            self.unread += octets
            for frame in self._frames():
                for event in self.http.receive_data(frame):
                    self._note(event)
            try:
                self.flush()
            except OSError:
                pass

    def _frames(self):
        """Whole frames but GOAWAY, after which the library takes the connection for closed, although streams go on."""
        while len(self.unread) >= 9 and len(self.unread) >= (whole := 9 + int.from_bytes(self.unread[:3])):
            frame, self.unread = self.unread[:whole], self.unread[whole:]
            if frame[3] == 7:
                self.going_away = True
            else:
                yield frame

    def _note(self, event: object) -> None:
        stream = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.ResponseReceived):
            fields = dict(event.headers)
            self.answers[stream].status = int(fields.pop(":status"))
            self.answers[stream].fields = list(fields.items())
        elif isinstance(event, h2.events.DataReceived):
            self.answers[stream].body += event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, h2.events.StreamEnded):
            self.answers[stream].whole = True
            self.ended.add(stream)
        elif isinstance(event, h2.events.StreamReset):
            self.ended.add(stream)

    def answer(self, stream: int) -> Answer:
        self.pump(lambda: stream in self.ended)
        return self.answers[stream]

    def until_body(self, stream: int) -> None:
        self.pump(lambda: self.answers[stream].body)
        require(self.answers[stream].body != b"", "closed before a body", self.answers[stream])

    def reset_stream(self, stream: int) -> None:
        self.http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def goaway(self) -> None:
        self.socket.sendall(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00" * 8)
