"""Point 2: how fast turns change hands where only one request may be at the backend."""

from __future__ import annotations

from backend import Site
from load import Kind, wrk
from measure import Row
from point_requests import loaded
from proxies import Limits, running
from settings import Settings

CLIENTS = 64


def measure_lane(site: Site, settings: Settings) -> list[Row]:
    """One session with Turnwise, one place at the server with HAProxy. nginx refuses where it should queue."""
    limits = Limits(rate=1_000_000, burst=1_000_000)
    rate = Row(2, "requests through the lane", "1/s", better="higher", digits=0)
    cost = Row(2, "CPU a request", "µs")
    wait = Row(2, "time from request to answer, median", "µs", digits=0)
    kind = Kind(keys=1)
    # Each has its own limit of one at once, and not the other's: Turnwise the lane, HAProxy the server.
    with running(site, limits, ["Turnwise"]) as ours, running(site, limits.but(at_once=1), ["HAProxy"]) as theirs:
        proxies = ours + theirs
        for proxy in proxies:
            wrk(proxy.port, CLIENTS, 1, kind)
        for _ in range(settings.rounds):
            for proxy in proxies:
                load, cpu = loaded(proxy, CLIENTS, settings.seconds, kind)
                rate.add(proxy.name, load.per_second)
                cost.add(proxy.name, cpu)
                wait.add(proxy.name, load.p50_us)
                rate.blame(proxy.name, load.problem)
    return [rate, cost, wait]
