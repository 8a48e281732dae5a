"""A gateway that a Prometheus scrapes once a second."""

import json
import pathlib
import typing
import urllib.parse

from asking import ask
from claims import require, soon
from processes import free_address, start, stop, wait_for

SCRAPES = """\
global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}
rule_files: {rules}
scrape_configs:
  - job_name: turnwise
    static_configs: [{{ targets: ["{admin}"] }}]
"""


class Scraped:
    """Both processes, while the block runs. The gateway's working folder is that of its policy."""

    def __init__(self, gateway: str, policy: pathlib.Path, admin: str, rules: typing.Sequence[pathlib.Path] = ()):
        self.folder = policy.parent
        self.address = free_address()
        scrapes = self.folder / "prometheus.yml"
        scrapes.write_text(SCRAPES.format(admin=admin, rules=json.dumps([str(path) for path in rules])))
        prometheus = ["prometheus", f"--config.file={scrapes}", f"--storage.tsdb.path={self.folder / 'data'}"]
        self.commands = {
            f"http://{admin}/-/ready": [gateway, "serve", "-c", policy],
            f"http://{self.address}/-/ready": [*prometheus, f"--web.listen-address={self.address}"],
        }
        self.processes: list = []

    def __enter__(self) -> "Scraped":
        try:
            for url, command in self.commands.items():
                log = self.folder / f"{pathlib.Path(command[0]).name}.log"
                self.processes.append(start(command, log, cwd=self.folder))
                wait_for(url, self.processes[-1], log)
            self.until("the gateway is up in Prometheus", "up == 1")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        codes = self.stop()
        # What went wrong before is what is to be told.
        if kind is None:
            require(codes[0] == 0, f"the gateway ended with {codes[0]}")

    def stop(self) -> list[int]:
        return [stop(process) for process in reversed(self.processes)][::-1]

    def get(self, path: str, **arguments: typing.Any) -> typing.Any:
        """What Prometheus answers, of its API."""
        answer = ask(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(arguments, doseq=True)}")
        said = json.loads(answer.text)
        if answer.status != 200 or said["status"] != "success" or said.get("warnings"):
            raise ValueError(said.get("error") or str(said.get("warnings")) or answer.text)
        return said["data"]

    def query(self, expression: str) -> list:
        return self.get("query", query=expression)["result"]

    def until(self, what: str, expression: str, within: float = 60) -> list:
        """What a query gives, once it gives something."""
        return soon(what, lambda: self.query(expression), within, 0.2)
