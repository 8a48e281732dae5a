"""An upstream that does nothing but answer, so that what is measured is the gateway. Prints its address."""

import selectors
import socket

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    print("%s:%d" % listener.getsockname(), flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                stream, _ = listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(stream, selectors.EVENT_READ)
                continue
            try:
                octets = key.fileobj.recv(65536)
                if octets:
                    key.fileobj.sendall(ANSWER * octets.count(b"\r\n\r\n"))
                    continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()


if __name__ == "__main__":
    main()
