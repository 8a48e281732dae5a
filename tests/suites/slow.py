"""slowhttptest: many slow clients at once, and whether others are served meanwhile."""

import csv
import pathlib
import statistics
import subprocess
import threading
import time
import urllib.error
import urllib.request

from rig import Counts, Proxy, program

SECONDS, CONNECTIONS, RATE = 20, 1000, 200
# Heads, bodies and readers that never come to an end, and overlapping ranges.
ATTACKS = {
    "slow heads": ["-H", "-i", "5", "-x", "24"],
    "slow bodies": ["-B", "-i", "5", "-x", "10", "-s", "8192"],
    "slow readers": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"],
    "ranges": ["-R", "-a", "10", "-b", "3000"],
}
PATHS = {"slow readers": "/download?size=4000000"}


class Probe(threading.Thread):
    """One who asks four times a second on new connections, and waits at most 5 s for each answer."""

    def __init__(self, port: int):
        super().__init__()
        self.url, self.ended, self.served, self.failed, self.times = f"http://127.0.0.1:{port}/word", threading.Event(), 0, 0, []

    def run(self) -> None:
        while not self.ended.wait(0.25):
            began = time.monotonic()
            try:
                request = urllib.request.Request(self.url, headers={"Connection": "close"})
                with urllib.request.urlopen(request, timeout=5) as answer:
                    answer.read()
                self.served += 1
                self.times.append(time.monotonic() - began)
            except (OSError, urllib.error.URLError):
                self.failed += 1


def run(proxy: Proxy, folder: pathlib.Path, only: str = "") -> tuple[Counts, list[str]]:
    """A case is passed when nobody was refused meanwhile."""
    counts, lines = Counts(), []
    for name, options in ATTACKS.items():
        if only not in name:
            continue
        probe = Probe(proxy.ports["clear"])
        url = f"http://127.0.0.1:{proxy.ports['clear']}{PATHS.get(name, '/word')}"
        out = folder / f"{proxy.name}-{name.replace(' ', '-')}"
        # Its own probe is `-p`: a request that takes longer than so many seconds means that the service is down.
        command = [program("slowhttptest"), *options, "-c", str(CONNECTIONS), "-r", str(RATE), "-l", str(SECONDS), "-p", "5"]
        before = proxy.resident()
        probe.start()
        done = subprocess.run([*command, "-u", url, "-g", "-o", str(out)], capture_output=True, text=True, timeout=SECONDS + 60)
        most = proxy.resident()
        probe.ended.set()
        probe.join(30)
        (folder / f"{out.name}.log").write_text(done.stdout + done.stderr)
        rows = list(csv.DictReader(out.with_suffix(".csv").open()))
        words = {word.strip(): [int(row[word]) for row in rows] for word in rows[0] if word.strip() != "Seconds"}
        available = words["Service Available"]
        share = 100 * sum(1 for value in available if value) / len(available)
        middle = statistics.median(probe.times) * 1000 if probe.times else float("nan")
        worst = max(probe.times, default=float("nan")) * 1000
        lines.append(
            f"{proxy.name:9} {name:13} its probe: up {share:3.0f} % · ours: {probe.served} served, {probe.failed} not, "
            f"median {middle:.0f} ms, worst {worst:.0f} ms · at the end {words['Connected'][-1]} connected, "
            f"{words['Closed'][-1]} closed · {most - before:+.1f} MiB"
        )
        counts.check(name, None if not probe.failed and share == 100 else lines[-1])
        rest = proxy.unrest(within=100)
        counts.check(f"at rest after {name}", "; ".join(rest) or None)
    return counts, lines
