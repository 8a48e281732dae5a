"""Point 1: what one request costs, how many pass, and how much later an answer comes."""

from __future__ import annotations

from backend import Site
from load import Kind, Load, wrk
from measure import Row
from proxies import WITH_FIELDS, Limits, Proxy, running
from settings import Settings

NAMES = ["Turnwise", "HAProxy", "nginx"]


def loaded(proxy: Proxy, connections: int, seconds: float, kind: Kind) -> tuple[Load, float]:
    """One run through a proxy, and its processor time for each request, in µs."""
    before = proxy.cpu_ns()
    load = wrk(proxy.port, connections, seconds, kind)
    return load, (proxy.cpu_ns() - before) / 1e3 / max(1, load.requests)


def measure_requests(site: Site, settings: Settings) -> list[Row]:
    rows: list[Row] = []
    with running(site, Limits(), [*NAMES, WITH_FIELDS]) as proxies:
        for proxy in proxies:
            wrk(proxy.port, 64, 1, Kind())
        for method, body in (("GET", 0), ("POST", 1024)):
            for connections in (64, 512):
                what = f"{method}{' 1 KiB' if body else ''}, {connections} connections"
                cost = Row(1, f"CPU a request: {what}", "µs")
                rate = Row(1, f"requests forwarded: {what}", "1/s", better="higher", digits=0)
                for _ in range(settings.rounds):
                    for proxy in proxies:
                        load, cpu = loaded(proxy, connections, settings.seconds, Kind(method, body))
                        cost.add(proxy.name, cpu)
                        rate.add(proxy.name, load.per_second)
                        cost.blame(proxy.name, load.problem)
                rows += [cost, rate]
        rows += latency(site, proxies[: len(NAMES)], settings)
    return rows


def latency(site: Site, proxies: list[Proxy], settings: Settings) -> list[Row]:
    """One connection, one request at a time. The direct way is measured in each round, too."""
    rows = {name: Row(1, f"added latency, {name}: GET, 1 connection", "µs") for name in ("median", "mean")}
    for _ in range(settings.rounds):
        direct = wrk(site.backend_port, 1, settings.seconds)
        for proxy in proxies:
            load = wrk(proxy.port, 1, settings.seconds)
            rows["median"].add(proxy.name, load.p50_us - direct.p50_us)
            rows["mean"].add(proxy.name, load.mean_us - direct.mean_us)
            rows["mean"].blame(proxy.name, load.problem)
        rows["median"].add("direct (whole)", direct.p50_us)
        rows["mean"].add("direct (whole)", direct.mean_us)
    return list(rows.values())
