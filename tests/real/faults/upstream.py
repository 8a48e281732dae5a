"""The judge: an upstream on raw sockets that counts what really runs in it and keeps what reached it.

What a request does is said by its `X-Do`. Unless a word says otherwise, an exchange never looks whether its client is
still there: it works on for its time, as a handler under uvicorn does.
"""

import select
import socket
import struct
import threading
import time

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
# No exchange holds for longer, whatever happens.
PATIENCE = 60


class Gone(Exception):
    """The other side has closed the connection."""


def reset(connection: socket.socket) -> None:
    """Closes with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Exchange:
    """One request at the upstream. It runs from its head until `end`."""

    def __init__(self, upstream: "Upstream", connection: socket.socket, head: bytes, rest: bytes):
        self.upstream = upstream
        self.connection = connection
        self.rest = rest
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        self.fields = [tuple(line.split(":", 1)) for line in lines[1:] if line]
        self.do = (self.field("x-do") or "answer").split()
        self.body = b""
        self.body_is_whole = False
        self.keeps = True
        self.client_gone = False
        self.running = False

    def field(self, name: str) -> str | None:
        return next((value.strip() for field, value in self.fields if field.lower() == name), None)

    def begin(self) -> None:
        upstream = self.upstream
        with upstream.lock:
            self.running = True
            upstream.running += 1
            upstream.peak = max(upstream.peak, upstream.running)
            upstream.seen.append(self)

    def end(self) -> None:
        """The work is over. Called before the last octet goes out: with it the next request may come."""
        with self.upstream.lock:
            if self.running:
                self.running = False
                self.upstream.running -= 1

    def _more(self) -> None:
        try:
            piece = self.connection.recv(65536)
        except OSError:
            piece = b""
        if not piece:
            self.client_gone = True
            raise Gone
        self.rest += piece

    def _line(self) -> bytes:
        while b"\r\n" not in self.rest:
            self._more()
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line

    def _exactly(self, length: int) -> bytes:
        while len(self.rest) < length:
            self._more()
        piece, self.rest = self.rest[:length], self.rest[length:]
        return piece

    def read_body(self) -> None:
        """To its end; raises `Gone` where it is cut."""
        if (self.field("transfer-encoding") or "").lower() == "chunked":
            while size := int(self._line(), 16):
                self.body += self._exactly(size)
                self._exactly(2)
            while self._line():
                pass
        else:
            self.body = self._exactly(int(self.field("content-length") or 0))
        self.body_is_whole = True

    def write(self, octets: bytes) -> bool:
        try:
            self.connection.sendall(octets)
            return True
        except OSError:
            self.client_gone = True
            return False

    def finish(self, octets: bytes = OK) -> None:
        self.end()
        self.write(octets)

    def hold(self) -> None:
        self.upstream.gate.wait(PATIENCE)

    def until_left(self) -> None:
        """Works until its client hangs up, or the gate is opened."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.upstream.gate.is_set():
            if select.select([self.connection], [], [], 0.01)[0]:
                try:
                    octets = self.connection.recv(65536)
                except OSError:
                    octets = b""
                if not octets:
                    self.client_gone = True
                    raise Gone
                self.rest += octets

    def close(self) -> None:
        self.end()
        self.keeps = False

    def reset(self) -> None:
        self.end()
        self.keeps = False
        reset(self.connection)

    def perform(self) -> None:
        custom = self.upstream.behaviours.get(self.do[0])
        if custom:
            custom(self)
        else:
            getattr(self, "do_" + self.do[0].replace("-", "_"))(*self.do[1:])

    # What `X-Do` may say.

    def do_answer(self) -> None:
        self.read_body()
        self.finish()

    def do_work(self, seconds: str) -> None:
        self.read_body()
        time.sleep(float(seconds))
        self.finish()

    def do_hold(self) -> None:
        self.read_body()
        self.hold()
        self.finish()

    def do_hold_unread(self) -> None:
        """Works from the head on, and does not read the rest."""
        self.hold()
        self.finish(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.keeps = False

    def do_stream_hold(self) -> None:
        """A first piece, and the others when the gate opens."""
        self.read_body()
        self.write(CHUNKED + b"5\r\nfirst\r\n")
        self.hold()
        self.write(b"4\r\nlast\r\n")
        self.finish(b"0\r\n\r\n")

    def do_stream_work(self, seconds: str) -> None:
        """A first piece, some work in silence, and the end."""
        self.read_body()
        self.write(CHUNKED + b"5\r\nfirst\r\n")
        time.sleep(float(seconds))
        self.finish(b"4\r\nlast\r\n0\r\n\r\n")

    def do_stream(self, pieces: str, seconds: str) -> None:
        """Pieces with pauses; stops at the first that cannot be written."""
        self.read_body()
        self.write(CHUNKED)
        for _ in range(int(pieces)):
            if not self.write(b"8\r\npiece...\r\n"):
                raise Gone
            time.sleep(float(seconds))
        self.finish(b"0\r\n\r\n")

    def do_notice(self) -> None:
        """Stops when its client hangs up."""
        self.read_body()
        self.until_left()
        self.finish()

    def do_echo(self) -> None:
        """Switches, and says again what it is told."""
        self.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        try:
            while octets := self.rest or self.connection.recv(65536):
                self.rest = b""
                self.connection.sendall(octets)
        except OSError:
            pass
        self.close()


class Upstream:
    """Listens until `close`."""

    def __init__(self, behaviours: dict | None = None, address: tuple[str, int] = ("127.0.0.1", 0)):
        self.behaviours = behaviours or {}
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.running = 0
        self.peak = 0
        self.seen: list[Exchange] = []
        self.connections: set[socket.socket] = set()
        self.faults: list[str] = []
        self.listener = None
        self.listen(address)

    def listen(self, address: tuple[str, int] | None = None) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address or self.bound)
        listener.listen(1024)
        self.bound = listener.getsockname()
        self.address = "%s:%d" % self.bound
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop_listening(self) -> None:
        """New connections are refused, and open ones closed."""
        # A thread that waits in accept keeps a socket alive that was merely closed.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the connections that are open."""
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        self.gate.set()
        self.stop_listening()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        rest = b""
        try:
            while True:
                while b"\r\n\r\n" not in rest:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    rest += piece
                head, rest = rest.split(b"\r\n\r\n", 1)
                exchange = Exchange(self, connection, head, rest)
                exchange.begin()
                try:
                    exchange.perform()
                finally:
                    exchange.end()
                rest = exchange.rest
                if not exchange.keeps:
                    return
        except (OSError, Gone):
            pass
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def open_connections(self) -> int:
        with self.lock:
            return len(self.connections)

    def count(self, part: str = "") -> int:
        with self.lock:
            return sum(part in exchange.target for exchange in self.seen)

    def open(self) -> None:
        """Lets go whatever holds, now and from now on."""
        self.gate.set()

    def shut(self) -> None:
        self.gate = threading.Event()
