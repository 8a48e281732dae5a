"""The backend for what a static one cannot do: it holds answers, streams events, takes uploads and sends downloads.

One thread around epoll, because it shares a core with the clients. Everything is below /origin:

  /origin/hold                     answers when it is released; at once while nothing is to be held
  /origin/events?count=&every_us=&phase_us=   an event stream, the first event right behind the head
  /origin/sink                     reads the whole body, answers how long it was
  /origin/blob?bytes=              answers that many octets

and, for whoever measures, asked directly:

  /control/hold   /control/release   /control/held (how many requests are held)
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time
from urllib.parse import parse_qs, urlsplit

# One octet that stands in each event once and nowhere else, so that events can be counted wherever a read cuts them.
MARK = b"~"
EVENT = b'data: {"delta":"~ about as much as one token of a model, wrapped"}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"
BLOB = memoryview(bytes(1 << 20))
READ = 1 << 18


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Client:
    """One connection."""

    __slots__ = ("blob_left", "body_left", "body_size", "events_left", "every", "head", "out", "path", "sock", "writes")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = b""
        self.body_left = 0
        self.body_size = 0
        self.path = ""
        self.out = b""
        self.blob_left = 0
        self.events_left = 0
        self.every = 0.0
        self.writes = False


class Origin:
    """The loop and its connections."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._clients: dict[int, Client] = {}
        self._held: list[Client] = []
        self._holds = False
        self._due: list[tuple[float, int, Client]] = []
        self._number = 0
        self._buffer = bytearray(READ)

    def run(self) -> None:
        listener = self._listener.fileno()
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for fd, events in self._poll.poll(wait):
                if fd == listener:
                    self._accept()
                    continue
                client = self._clients.get(fd)
                if client is None:
                    continue
                try:
                    if events & select.EPOLLOUT:
                        self._flush(client)
                    if events & ~select.EPOLLOUT:
                        self._read(client)
                except OSError:
                    self._forget(client)
            self._send_events()

    def _accept(self) -> None:
        for _ in range(256):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[sock.fileno()] = Client(sock)
            self._poll.register(sock, select.EPOLLIN)

    def _forget(self, client: Client) -> None:
        if client.sock.fileno() in self._clients:
            del self._clients[client.sock.fileno()]
            client.sock.close()
            client.events_left = 0

    def _read(self, client: Client) -> None:
        try:
            size = client.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if size == 0:
            self._forget(client)
        elif client.body_left:
            self._body(client, size)
        else:
            client.head += self._buffer[:size]
            head, end, rest = client.head.partition(b"\r\n\r\n")
            if end:
                client.head = b""
                self._request(client, head, len(rest))

    def _request(self, client: Client, head: bytes, of_body: int) -> None:
        client.path = head.split(b" ", 2)[1].decode()
        client.body_size = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                client.body_size = int(value)
        client.body_left = client.body_size
        self._body(client, of_body)

    def _body(self, client: Client, size: int) -> None:
        client.body_left -= size
        if client.body_left == 0:
            self._complete(client)

    def _complete(self, client: Client) -> None:
        url = urlsplit(client.path)
        query = {key: int(values[0]) for key, values in parse_qs(url.query).items()}
        if url.path == "/origin/hold" and self._holds:
            self._held.append(client)
        elif url.path == "/origin/events":
            self._stream(client, query["count"], query["every_us"] / 1e6, query.get("phase_us", 0) / 1e6)
        elif url.path == "/origin/sink":
            self._send(client, answer(b"%d" % client.body_size))
        elif url.path == "/origin/blob":
            client.blob_left = query["bytes"]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
            self._send(client, head % query["bytes"])
        elif url.path == "/control/held":
            self._send(client, answer(b"%d" % len(self._held)))
        elif url.path.startswith("/control/"):
            self._control(client, url.path)
        else:
            self._send(client, answer(b"ok"))

    def _control(self, client: Client, path: str) -> None:
        self._holds = path == "/control/hold"
        released: list[Client] = []
        if not self._holds:
            released, self._held = self._held, []
        for other in released:
            self._send(other, answer(b"released"))
        self._send(client, answer(b"%d" % len(released)))

    def _stream(self, client: Client, count: int, every: float, phase: float) -> None:
        client.events_left = count - 1
        client.every = every
        self._send(client, STREAM_HEAD + CHUNK)
        self._schedule(client, time.monotonic() + every + phase)

    def _schedule(self, client: Client, when: float) -> None:
        self._number += 1
        heapq.heappush(self._due, (when, self._number, client))

    def _send_events(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            when, _, client = heapq.heappop(self._due)
            if client.sock.fileno() < 0:
                continue
            if client.events_left <= 0:
                self._send(client, STREAM_END)
                continue
            client.events_left -= 1
            self._send(client, CHUNK)
            self._schedule(client, when + client.every)

    def _send(self, client: Client, data: bytes) -> None:
        client.out += data
        try:
            self._flush(client)
        except OSError:
            self._forget(client)

    def _flush(self, client: Client) -> None:
        if client.sock.fileno() < 0:
            return
        try:
            while client.out or client.blob_left:
                if client.out:
                    client.out = client.out[client.sock.send(client.out):]
                else:
                    client.blob_left -= client.sock.send(BLOB[:client.blob_left])
        except BlockingIOError:
            self._watch(client, True)
        else:
            self._watch(client, False)

    def _watch(self, client: Client, writes: bool) -> None:
        if client.writes != writes:
            client.writes = writes
            self._poll.modify(client.sock, select.EPOLLIN | (select.EPOLLOUT if writes else 0))


if __name__ == "__main__":
    Origin(int(sys.argv[1])).run()
