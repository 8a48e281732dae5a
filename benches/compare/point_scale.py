"""Point 4: does a request cost the same when there are many sessions, or many that wait?"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

from backend import Site, control
from clients import Fleet, problem_of
from load import Kind, wrk
from measure import OURS, Row, spread_of_ratios
from point_memory import fill_queue, held
from point_requests import loaded
from proxies import Limits, Proxy, running
from settings import Settings

CONNECTIONS = 64
# A token comes back once an hour: whatever was used once stays in the table for as long as we measure.
REMEMBERED = Limits(session_at_once=CONNECTIONS, rate=1, rate_unit="h", burst=1_000_000)


def measure_bystanders(site: Site, settings: Settings) -> list[Row]:
    one_place = Limits(origin_at_once=1)
    return [
        *bystanders(site, settings, "wait in one lane", Limits(), lambda _: held("one")),
        *bystanders(site, settings, "wait for a place", one_place, lambda number: held(f"w{number}")),
    ]


def measure_queues(site: Site, settings: Settings) -> list[Row]:
    lane = Limits(rate=1_000_000, burst=1_000_000)
    return [
        *through(site, settings, "in the lane they use", lane, Kind(keys=1), 1),
        *through(site, settings, "for places, 8 at once", Limits(at_once=8), Kind(keys=100_000), 8),
    ]


def compare_to_first(rows: list[Row]) -> list[Row]:
    """Notes how each row stands to the first one, of which it should be no multiple."""
    first = rows[0]
    for row in rows[1:]:
        spread = spread_of_ratios(row.samples[OURS], first.samples[OURS])
        if spread:
            row.note = f"{spread.median:.2f} ({spread.low:.2f}..{spread.high:.2f}) times that of the first line"
    return rows


def measure_sessions(site: Site, settings: Settings) -> list[Row]:
    """One gateway for each number of sessions, all filled beforehand; then they are measured in turns."""
    sizes = [10, 1_000, 100_000] if settings.quick else [10, 1_000, 100_000, 1_000_000]
    rows = [Row(4, f"CPU a request, GET, {size:,} live sessions", "µs") for size in sizes]
    with running(site, REMEMBERED, [OURS] * len(sizes)) as proxies:
        for proxy, size, row in zip(proxies, sizes, rows):
            row.blame(OURS, populate(proxy, size))
        for _ in range(settings.rounds):
            for proxy, size, row in zip(proxies, sizes, rows):
                kind = Kind(keys=size, first=random.randrange(1_000_000))
                load, cpu = loaded(proxy, CONNECTIONS, settings.seconds, kind)
                row.add(OURS, cpu)
                row.blame(OURS, load.problem)
        memory = Row(4, f"memory of a session with a rate limit, {sizes[-1]:,} of them", "octets", digits=0)
        memory.add(OURS, (proxies[-1].rss_kib() - proxies[0].rss_kib()) * 1024 / sizes[-1])
    return [*compare_to_first(rows), memory]


def populate(proxy: Proxy, size: int) -> str:
    """Uses every session once. What is wrong, or nothing."""
    rate = wrk(proxy.port, CONNECTIONS, 1, Kind(keys=size)).per_second
    first = int(rate)
    for _ in range(20):
        known = proxy.metric("turnwise_rate_limit_keys")
        if known >= size:
            return ""
        load = wrk(proxy.port, CONNECTIONS, min(60, size / rate + 1), Kind(keys=size, first=first))
        first += load.requests
    return f"{known:.0f} of {size} sessions are remembered"


def bystanders(
    site: Site, settings: Settings, what: str, limits: Limits, make: Callable[[int], bytes]
) -> list[Row]:
    """Requests that have nothing to do with those that wait: they must not notice them."""
    sizes = [10, 500] if settings.quick else [10, 500, 5_000]
    rows = [Row(4, f"CPU a request, GET, while {size:,} others {what}", "µs") for size in sizes]
    with contextlib.ExitStack() as stack:
        proxies = stack.enter_context(running(site, limits, [OURS] * len(sizes)))
        fleets = []
        for proxy, size, row in zip(proxies, sizes, rows):
            wrk(proxy.port, CONNECTIONS, 1)
            fleets.append(Fleet(proxy.port, size + 1))
            stack.callback(fleets[-1].close)
            row.blame(OURS, fill_queue(site, proxy, fleets[-1], make, size))
        for _ in range(settings.rounds):
            for proxy, row in zip(proxies, rows):
                load, cpu = loaded(proxy, CONNECTIONS, settings.seconds, Kind())
                row.add(OURS, cpu)
                row.blame(OURS, load.problem)
        for proxy, size, row in zip(proxies, sizes, rows):
            left = proxy.waiting()
            row.blame(OURS, "" if left == size else f"only {left} of {size} were still waiting at the end")
        control(site, "release")
        for fleet, row in zip(fleets, rows):
            row.blame(OURS, problem_of(fleet.collect(60)))
    return compare_to_first(rows)


def through(site: Site, settings: Settings, what: str, limits: Limits, kind: Kind, running_now: int) -> list[Row]:
    """Requests that stand in the queue themselves, behind so many others."""
    sizes = [10, 500] if settings.quick else [10, 500, 5_000]
    rows = [Row(4, f"CPU a request, GET, with {size:,} waiting {what}", "µs") for size in sizes]
    with running(site, limits, [OURS]) as (proxy,):
        wrk(proxy.port, CONNECTIONS, 1, kind)
        for _ in range(settings.rounds):
            for size, row in zip(sizes, rows):
                load, cpu = loaded(proxy, size + running_now, settings.seconds, kind)
                row.add(OURS, cpu)
                row.blame(OURS, load.problem)
    compare_to_first(rows)
    rows[-1].note += "; each of them is a connection in use, and what that costs is part of it"
    return rows


def measure_forgetting(site: Site, settings: Settings) -> list[Row]:
    """Sessions that come once and never again have to be forgotten, here after a minute: when the token is back."""
    total = 100_000 if settings.quick else 1_000_000
    limits = Limits(rate=1, rate_unit="min", burst=1)
    names = ("rate-limit keys at the most", "rate-limit keys in the end", "sessions active in the end")
    rows = [Row(4, f"{total:,} sessions seen once: {name}", "", digits=0) for name in names]
    memory = [
        Row(4, f"{total:,} sessions seen once: resident {when}", "MiB") for when in ("before", "then", "in the end")
    ]
    with running(site, limits, [OURS]) as (proxy,):
        warm = wrk(proxy.port, CONNECTIONS, 1, Kind(keys=0, prefix="warm"))
        memory[0].add(OURS, proxy.rss_kib() / 1024)
        load = wrk(proxy.port, CONNECTIONS, total / warm.per_second + 1, Kind(keys=0))
        rows[0].add(OURS, proxy.metric("turnwise_rate_limit_keys"))
        rows[0].blame(OURS, load.problem)
        rows[0].note = f"{load.requests:,} requests in {load.seconds:.0f} s, one for each session"
        memory[1].add(OURS, proxy.rss_kib() / 1024)
        begin = time.monotonic()
        while (left := proxy.metric("turnwise_rate_limit_keys")) and time.monotonic() < begin + 120:
            time.sleep(1)
        rows[1].add(OURS, left)
        rows[1].blame(OURS, f"{left:.0f} keys are still there" if left else "")
        rows[1].note = f"none left {time.monotonic() - begin:.0f} s later" if not left else ""
        active = proxy.metric("turnwise_sessions_active")
        rows[2].add(OURS, active)
        rows[2].blame(OURS, f"{active:.0f} sessions are still active" if active else "")
        memory[2].add(OURS, proxy.rss_kib() / 1024)
    return rows + memory
