"""Point 5: event streams, as models send them."""

from __future__ import annotations

import statistics

from backend import Site
from clients import first_event_us, read_streams
from measure import Row
from proxies import Limits, Proxy, running
from settings import Settings

NAMES = ["Turnwise", "HAProxy", "nginx"]
STREAMS = 200
EVERY_US = 20_000
MANY = 5_000


def measure_events(site: Site, settings: Settings) -> list[Row]:
    cost = Row(5, f"CPU an event, {STREAMS} streams, {STREAMS * 1_000_000 // EVERY_US:,} events/s", "µs", digits=2)
    merged = Row(5, "events in one read of the client (1: none were merged)", "", digits=2, compared=False)
    first = Row(5, "first event later than directly, median", "µs")
    with running(site, Limits(), NAMES) as proxies:
        for _ in range(settings.rounds):
            for proxy in proxies:
                one_run(proxy, settings.seconds, cost, merged)
        for _ in range(settings.rounds):
            direct = statistics.median(first_event_us(site.origin_port, 300))
            for proxy in proxies:
                first.add(proxy.name, statistics.median(first_event_us(proxy.port, 300)) - direct)
            first.add("direct (whole)", direct)
    return [cost, merged, first]


def one_run(proxy: Proxy, seconds: float, cost: Row, merged: Row) -> None:
    """Streams that are open before the clock starts and after it stops: opening them is not in the figure."""
    count = int((seconds + 1) * 1_000_000 / EVERY_US)

    def path(number: int) -> str:
        # Spread over the interval: all at once would come as one burst, and be read as one.
        return f"/origin/events?count={count}&every_us={EVERY_US}&phase_us={number * EVERY_US // STREAMS}"

    got = read_streams(proxy.port, STREAMS, path, seconds + 30, [0.5, 0.5 + seconds], proxy.cpu_ns)
    (cpu_before, events_before), (cpu_after, events_after) = got.marks
    cost.add(proxy.name, (cpu_after - cpu_before) / 1e3 / max(1, events_after - events_before))
    merged.add(proxy.name, got.events / max(1, got.reads))
    if got.events != count * STREAMS or got.ended != STREAMS:
        cost.blame(proxy.name, f"{got.events} of {count * STREAMS} events, {got.ended} of {STREAMS} streams to the end")


def measure_many(site: Site, settings: Settings) -> list[Row]:
    """Thousands of streams at once, each served to its end."""
    streams = MANY // 5 if settings.quick else MANY
    events = 10
    memory = Row(5, f"memory of an open stream, {streams:,} at once", "KiB")
    cost = Row(5, f"CPU an event, {streams:,} streams, {streams:,} events/s", "µs", digits=2)
    ended = Row(5, f"streams served to the end, of {streams:,}", "", better="higher", digits=0, compared=False)

    def path(number: int) -> str:
        return f"/origin/events?count={events}&every_us=1000000&phase_us={number * 1_000_000 // streams}"

    for _ in range(1 if settings.quick else min(2, settings.rounds)):
        for name in NAMES:
            with running(site, Limits(), [name]) as (proxy,):
                first_event_us(proxy.port, 20)
                rss: list[int] = [proxy.rss_kib()]

                def look(proxy: Proxy = proxy, rss: list[int] = rss) -> int:
                    rss.append(proxy.rss_kib())
                    return proxy.cpu_ns()

                got = read_streams(proxy.port, streams, path, 60, [2, 7], look)
                (cpu_before, events_before), (cpu_after, events_after) = got.marks
                memory.add(name, (rss[1] - rss[0]) / streams)
                cost.add(name, (cpu_after - cpu_before) / 1e3 / max(1, events_after - events_before))
                ended.add(name, got.ended)
                if got.events != events * streams or got.ended != streams:
                    ended.blame(name, f"{got.events} of {events * streams} events arrived, {got.closed} cut off")
    return [memory, cost, ended]
