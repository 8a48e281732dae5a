"""A raw client: sends octets as they are, and reads answers strictly."""

import dataclasses
import re
import socket
import time

STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*\Z")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*\Z")


class Nonsense(Exception):
    """An answer that is none."""


@dataclasses.dataclass
class Answer:
    status: int
    fields: list[tuple[str, bytes]]
    body: bytes = b""
    # Whether the body was read to its end.
    whole: bool = True

    def all(self, name: str) -> list[bytes]:
        return [value for own, value in self.fields if own == name]

    def field(self, name: str) -> bytes | None:
        values = self.all(name)
        return values[0] if values else None


class Client:
    """One connection."""

    def __init__(self, address: str, timeout: float = 10, receive_buffer: int | None = None):
        host, port = address.rsplit(":", 1)
        self.stream = socket.socket()
        if receive_buffer:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.stream.settimeout(timeout)
        self.stream.connect((host, int(port)))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.unread = b""
        self.ended = False
        self.interim: list[int] = []

    def send(self, octets: bytes) -> bool:
        """Whether the other side still took them."""
        try:
            self.stream.sendall(octets)
            return True
        except OSError:
            return False

    def finish(self) -> None:
        try:
            self.stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def more(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if self.ended:
            return False
        if left <= 0:
            raise TimeoutError
        self.stream.settimeout(left)
        try:
            piece = self.stream.recv(65536)
        except ConnectionError:
            piece = b""
        self.unread += piece
        self.ended = not piece
        return bool(piece)

    def answer(self, method: str = "GET", seconds: float | None = None) -> Answer | None:
        """The next final answer; None when the connection has ended instead. TimeoutError when neither comes."""
        deadline = time.monotonic() + (self.timeout if seconds is None else seconds)
        while True:
            while b"\r\n\r\n" not in self.unread:
                if not self.more(deadline):
                    if self.unread:
                        raise Nonsense(f"half an answer: {self.unread[:200]!r}")
                    return None
            head, _, self.unread = self.unread.partition(b"\r\n\r\n")
            answer = self.parse(head)
            if answer.status >= 200 or answer.status == 101:
                break
            self.interim.append(answer.status)
        if method == "HEAD" or answer.status in (101, 204, 304):
            return answer
        lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
        if len(lengths) + len(codings) > 1:
            raise Nonsense(f"an answer with two framings: {head!r}")
        try:
            if codings:
                self.chunked(answer, deadline)
            elif lengths:
                while len(self.unread) < int(lengths[0]):
                    if not self.more(deadline):
                        answer.whole = False
                        break
                answer.body, self.unread = self.unread[: int(lengths[0])], self.unread[int(lengths[0]) :]
            else:
                while self.more(deadline):
                    pass
                answer.body, self.unread = self.unread, b""
        except EOFError:
            answer.whole = False
        return answer

    def parse(self, head: bytes) -> Answer:
        lines = head.split(b"\r\n")
        status = STATUS.match(lines[0])
        fields = [FIELD.match(line) for line in lines[1:]]
        if not status or not all(fields) or b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b""):
            raise Nonsense(f"the head of an answer: {head!r}")
        return Answer(int(status[1]), [(field[1].decode().lower(), field[2] or b"") for field in fields])

    def chunked(self, answer: Answer, deadline: float) -> None:
        while True:
            size = int(self.line(deadline), 16)
            if size == 0:
                while self.line(deadline):
                    pass
                return
            while len(self.unread) < size + 2:
                if not self.more(deadline):
                    raise EOFError
            answer.body += self.unread[:size]
            self.unread = self.unread[size + 2 :]

    def line(self, deadline: float) -> bytes:
        while b"\r\n" not in self.unread:
            if not self.more(deadline):
                raise EOFError
        line, _, self.unread = self.unread.partition(b"\r\n")
        return line

    def closed(self, seconds: float | None = None) -> bool:
        """Whether the other side ends the connection, without another octet."""
        deadline = time.monotonic() + (self.timeout if seconds is None else seconds)
        try:
            while self.more(deadline):
                pass
        except TimeoutError:
            return False
        return not self.unread

    def close(self) -> None:
        self.stream.close()


def get(target: str = "/", fields: str = "", method: str = "GET", body: str = "", host: str = "a.example") -> bytes:
    """A sound request."""
    length = f"Content-Length: {len(body.encode('latin-1'))}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}{fields}\r\n{body}".encode("latin-1")


def ask(address: str, target: str = "/", fields: str = "", method: str = "GET", body: str = "", host: str = "a.example") -> Answer | None:
    """One request on a connection of its own."""
    client = Client(address, 20)
    try:
        client.send(get(target, fields, method, body, host))
        return client.answer(method)
    finally:
        client.close()
