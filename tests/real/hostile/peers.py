"""Other proxies before the same recorder, for a count side by side."""

import os
import pathlib
import shutil
import socket
import time

from drive import free_address, start, stop

HERE = pathlib.Path(__file__).parent


class Peer:
    """HAProxy or nginx, with the configuration that lies beside this file."""

    def __init__(self, name: str, folder: pathlib.Path, upstream: str):
        self.public, self.http2 = free_address(), free_address()
        file = HERE / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]
        own = folder / file.name
        text = file.read_text()
        for word, value in {"public": self.public, "http2": self.http2, "upstream": upstream, "folder": str(folder)}.items():
            text = text.replace("{%s}" % word, value)
        own.write_text(text)
        program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            raise SystemExit(f"{name} is not installed")
        command = [program, "-db", "-f", str(own)] if name == "haproxy" else [program, "-c", str(own), "-p", str(folder)]
        self.process = start(command, folder / f"{name}.log", dict(os.environ))
        if name == "haproxy":
            # It tells the versions apart itself.
            self.http2 = self.public
        deadline = time.monotonic() + 20
        while True:
            try:
                host, port = self.public.rsplit(":", 1)
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{name} does not start:\n{(folder / f'{name}.log').read_text()}")
                time.sleep(0.05)

    def close(self) -> None:
        stop(self.process)
