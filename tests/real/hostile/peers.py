"""Other proxies before the same recorder, for a count side by side."""

import os
import pathlib
import shutil

from processes import free_address, start, stop, wait_for_listener

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
        command = [program, "-db", "-f", own] if name == "haproxy" else [program, "-c", own, "-p", folder]
        log = folder / f"{name}.log"
        self.process = start(command, log)
        if name == "haproxy":
            # It tells the versions apart itself.
            self.http2 = self.public
        wait_for_listener(self.public, self.process, log)

    def close(self) -> None:
        stop(self.process)
