"""Reads what a process has used from /proc, and turns samples of several rounds into one row of the report."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

OURS = "Turnwise"


def cpu_ns(pids: list[int]) -> int:
    """Processor time of all threads of these processes.

    `schedstat` counts nanoseconds; `stat` counts ticks of 10 ms, too coarse for a request that costs 20 µs.
    """
    total = 0
    for pid in pids:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0])
    return total


def _status_kib(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise LookupError(f"no {key} for process {pid}")


def rss_kib(pids: list[int]) -> int:
    """Resident memory, now."""
    return sum(_status_kib(pid, "VmRSS") for pid in pids)


def peak_rss_kib(pids: list[int]) -> int:
    """The most resident memory since `reset_peak`."""
    return sum(_status_kib(pid, "VmHWM") for pid in pids)


def reset_peak(pids: list[int]) -> None:
    """Lets the kernel count the peak anew from here on."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass
class Spread:
    """The ratios of several rounds: the middle one, and how far they lie apart."""

    median: float
    low: float
    high: float


def spread_of_ratios(ours: list[float], theirs: list[float]) -> Spread | None:
    """Round by round: what disturbs a machine for a while disturbs both sides of such a ratio."""
    ratios = [one / other for one, other in zip(ours, theirs) if other > 0]
    return Spread(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


@dataclass
class Row:
    """One thing measured, for each proxy, once a round. Samples with the same number were taken one after another."""

    point: int
    what: str
    unit: str
    better: str = "lower"
    digits: int = 1
    compared: bool = True
    samples: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    note: str = ""

    def add(self, who: str, value: float) -> None:
        self.samples.setdefault(who, []).append(value)

    def blame(self, who: str, problem: str) -> None:
        """A run that had errors measured something else than it says; the row has to tell."""
        if problem:
            self.problems.append(f"{who}: {problem}")

    def rounds(self) -> int:
        return max((len(values) for values in self.samples.values()), default=0)

    def median(self, who: str) -> float | None:
        values = self.samples.get(who)
        return statistics.median(values) if values else None

    def ratio(self, to: str) -> Spread | None:
        """Turnwise over the other, where that says anything."""
        if not self.compared:
            return None
        return spread_of_ratios(self.samples.get(OURS, []), self.samples.get(to, []))
