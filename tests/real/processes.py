"""Programs that a test starts: where they listen, when they are there, what they take, and how they end."""

import http.client
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import typing

from asking import ask
from claims import Failed, comes_true

HERE = pathlib.Path(__file__).resolve().parent
# Interpreters and browsers take a while to start where other things go on.
STARTED = 60


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


def free_address(host: str = "127.0.0.1") -> str:
    return f"{host}:{free_port(host)}"


def address_apart() -> str:
    """A free port of an address of its own, where no connection that goes out can take it meanwhile."""
    return free_address(f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}")


def start(command: typing.Sequence, log: pathlib.Path, cwd: pathlib.Path | None = None, **environment: str) -> subprocess.Popen:
    """Its output goes to the log; `environment` comes to this process's own."""
    with log.open("w") as output:
        return subprocess.Popen(
            [str(word) for word in command], stdout=output, stderr=subprocess.STDOUT, cwd=cwd, env={**os.environ, **environment}
        )


def start_application(name: str, address: str, log: pathlib.Path, folder: pathlib.Path = HERE, **environment: str) -> subprocess.Popen:
    """An ASGI application of this folder, or another, under uvicorn."""
    command = [sys.executable, "-m", "uvicorn", name, "--app-dir", folder, "--log-level", "warning"]
    command += ["--host", "127.0.0.1", "--port", address.split(":")[1], "--timeout-graceful-shutdown", "2"]
    return start(command, log, **environment)


def wait_for(url: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    """Until it answers with 200."""

    def serves() -> bool:
        try:
            return ask(url, within=2).status == 200
        except (OSError, http.client.HTTPException):
            return False

    _wait(serves, url, process, log)


def wait_for_listener(address: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    """Until it takes connections."""
    _wait(lambda: listens(address), address, process, log)


def _wait(serves: typing.Callable[[], bool], where: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    found = comes_true(lambda: process.poll() is not None or serves(), STARTED, 0.05)
    if process.poll() is not None:
        raise Failed(f"what was to serve at {where} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
    if not found:
        raise Failed(f"nothing answers at {where} after {STARTED} s:\n{log.read_text()[-4000:]}")


def listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False


def stop(process: subprocess.Popen) -> int:
    """Its exit code, or -1 where it had to be killed."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return -1


class Watched:
    """What the system tells of `process`."""

    process: subprocess.Popen

    def proc(self, name: str) -> str:
        return pathlib.Path(f"/proc/{self.process.pid}/{name}").read_text()

    def status(self, name: str) -> int:
        """A number of its status: of KiB, where it is memory."""
        return int(re.search(rf"{name}:\s+(\d+)", self.proc("status"))[1])

    def resident(self) -> float:
        """MiB of memory."""
        return self.status("VmRSS") / 1024

    def peak(self) -> float:
        """The most MiB of memory since `forget_peak`."""
        return self.status("VmHWM") / 1024

    def forget_peak(self) -> None:
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Of processor time so far."""
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
