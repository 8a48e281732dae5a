"""The gateway's metrics as numbers."""

import re
import typing

# What is zero where nothing runs and nothing waits.
GAUGES = (
    "turnwise_in_flight_requests",
    "turnwise_waiting_requests",
    "turnwise_queue_bytes",
    "turnwise_sessions_active",
    "turnwise_oldest_wait_seconds",
    "turnwise_oldest_in_flight_seconds",
)


class Sample(typing.NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def samples(page: str) -> list[Sample]:
    found = []
    for line in page.splitlines():
        if sample := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
            found.append(Sample(sample[1], labels, float(sample[3])))
    return found


def total(found: list[Sample], name: str, **labels: str) -> float:
    """The sum of all samples with these labels."""
    return sum(sample.value for sample in found if sample.name == name and labels.items() <= sample.labels.items())


def restless(found: list[Sample]) -> list[Sample]:
    """Gauges that are not zero."""
    return [sample for sample in found if sample.name in GAUGES and sample.value]
