"""HTTP servers of a few lines, in threads of the test's own process."""

import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Says nothing of what it does."""

    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, body: bytes, status: int = 200, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Serves until it is closed, or the test ends."""

    request_queue_size = 128

    def __init__(self, handler: type[Handler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.address = "127.0.0.1:%d" % self.server_port
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass  # an answer that nobody waits for any more

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
