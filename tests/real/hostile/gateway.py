"""A gateway to be attacked, and what is asked of it afterwards: that it is at rest, and as small as before."""

import pathlib
import re

from claims import comes_true
from hostile.client import Answer, ask
from metrics import GAUGES, restless, samples, total
from processes import Watched, free_address, start, stop, wait_for


class Gateway(Watched):
    """The real binary with a policy; `{upstream}` in it is the recorder's address."""

    def __init__(self, binary: str, folder: pathlib.Path, name: str, policy: str, upstream: str):
        self.public, self.admin, self.log = free_address(), free_address(), folder / f"{name}.log"
        head = f"listen: {self.public}\nadmin: {{ listen: \"{self.admin}\"{{admin}} }}\n"
        extra = ""
        if (match := re.match(r"admin: (.*)\n", policy)) is not None:
            extra, policy = f", {match[1]}", policy[match.end() :]
        self.file = folder / f"{name}.yaml"
        self.file.write_text(head.replace("{admin}", extra) + policy.replace("{upstream}", upstream))
        self.process = start([binary, "serve", "-c", self.file], self.log)
        wait_for(f"http://{self.admin}/-/ready", self.process, self.log)
        self.http2 = self.public

    def metrics(self) -> str:
        return self.ask_admin("/metrics").body.decode()

    def ask_admin(self, target: str, method: str = "GET", fields: str = "") -> Answer:
        answer = ask(self.admin, target, fields, method, host=self.admin)
        if answer is None:
            raise OSError(f"the admin port gives no answer to {target}")
        return answer

    def sum(self, name: str) -> float:
        return total(samples(self.metrics()), name)

    def at_rest(self, seconds: float = 15) -> list[str]:
        """What is still there when nothing should be."""
        metrics = self.metrics()
        missing = [f"no {name}" for name in GAUGES if name not in metrics]
        if missing or comes_true(lambda: not restless(samples(self.metrics())), seconds, 0.05):
            return missing
        return [f"{left.name} {left.labels} is {left.value:g}" for left in restless(samples(self.metrics()))]

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

    def close(self) -> list[str]:
        code = stop(self.process)
        return [f"the gateway ended with {code}: {self.log.read_text()[-2000:]}"] if code else []
