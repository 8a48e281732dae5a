"""Runs wrk and reads what it says at its end."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "session_keys.lua"


@dataclass
class Load:
    """One run of wrk."""

    requests: int
    seconds: float
    p50_us: float
    mean_us: float
    problem: str

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Kind:
    """Which requests are sent. `keys` 0 means that every request has a new session, from number `first` on."""

    method: str = "GET"
    body: int = 0
    keys: int = 4096
    prefix: str = "s"
    path: str = "/"
    first: int = 0


def wrk(port: int, connections: int, seconds: float, kind: Kind = Kind()) -> Load:
    """One run: as many requests as fit into the time, each connection sending its next one when it has its answer."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--timeout", "30", "-s", str(SCRIPT),
        f"http://127.0.0.1:{port}", "--", kind.method, str(kind.body), str(kind.keys), kind.prefix, kind.path,
        str(kind.first),
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not found:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    numbers = {key: float(value) for key, value in (pair.split("=") for pair in found[1].split())}
    kinds = ("connect", "read", "write", "status", "timeout")
    problem = ", ".join(f"{int(numbers[kind])} errors of {kind}" for kind in kinds if numbers[kind])
    if not numbers["requests"]:
        problem = "not one request was answered"
    return Load(
        int(numbers["requests"]), numbers["duration_us"] / 1e6, numbers["p50_us"], numbers["mean_us"], problem
    )
