"""A gateway to be attacked, and what is asked of it afterwards: that it is at rest, and as small as before."""

import os
import pathlib
import re
import time

from drive import free_address, start, stop, wait_for
from hostile.client import Answer, ask

AT_REST = [
    "turnwise_in_flight_requests",
    "turnwise_waiting_requests",
    "turnwise_sessions_active",
    "turnwise_queue_bytes",
]


class Gateway:
    """The real binary with a policy; `{upstream}` in it is the recorder's address."""

    def __init__(self, binary: str, folder: pathlib.Path, name: str, policy: str, upstream: str):
        self.public, self.admin, self.log = free_address(), free_address(), folder / f"{name}.log"
        head = f"listen: {self.public}\nadmin: {{ listen: \"{self.admin}\"{{admin}} }}\n"
        extra = ""
        if (match := re.match(r"admin: (.*)\n", policy)) is not None:
            extra, policy = f", {match[1]}", policy[match.end() :]
        self.file = folder / f"{name}.yaml"
        self.file.write_text(head.replace("{admin}", extra) + policy.replace("{upstream}", upstream))
        self.process = start([binary, "serve", "-c", str(self.file)], self.log, dict(os.environ))
        wait_for(f"http://{self.admin}/-/ready", self.process, self.log)
        self.http2 = self.public

    def metrics(self) -> str:
        return self.ask_admin("/metrics").body.decode()

    def ask_admin(self, target: str, method: str = "GET", fields: str = "") -> Answer:
        answer = ask(self.admin, target, fields, method, host=self.admin)
        if answer is None:
            raise OSError(f"the admin port gives no answer to {target}")
        return answer

    def sum(self, name: str, metrics: str | None = None, labels: str = "") -> float:
        """Over all labels, or over those that contain `labels`."""
        lines = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", metrics or self.metrics(), re.MULTILINE)
        return sum(float(value) for own, value in lines if labels in own)

    def at_rest(self, seconds: float = 15) -> list[str]:
        """What is still there when nothing should be."""
        deadline = time.monotonic() + seconds
        while True:
            metrics = self.metrics()
            left = [f"{name} is {value:g}" for name in AT_REST if (value := self.sum(name, metrics))]
            missing = [f"no {name}" for name in AT_REST if name not in metrics]
            if not left or missing or time.monotonic() > deadline:
                return left + missing
            time.sleep(0.05)

    def afterwards(self, target: str = "/fresh", fields: str = "") -> list[str]:
        """What is wrong with the gateway after an attack."""
        if self.process.poll() is not None:
            return [f"the gateway ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"]
        problems = []
        try:
            problems += self.at_rest()
            answer = ask(self.public, target, fields)
            if answer is None or answer.status != 200:
                problems.append(f"a fresh request got {answer and answer.status}")
        except (OSError, TimeoutError) as error:
            problems.append(f"a fresh request got {error!r}")
        if "panicked" in self.log.read_text():
            problems.append("the gateway panicked: " + self.log.read_text()[-2000:])
        return problems

    def resident(self) -> float:
        """MiB of memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def peak(self) -> float:
        """The most MiB of memory since `forget_peak`."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def forget_peak(self) -> None:
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> list[str]:
        code = stop(self.process)
        return [f"the gateway ended with {code}: {self.log.read_text()[-2000:]}"] if code else []
