"""Point 6: large uploads and downloads."""

from __future__ import annotations

import time
from collections.abc import Callable

from backend import Site
from clients import download, transfer, upload
from measure import Row, peak_rss_kib, reset_peak
from proxies import Limits, Proxy, running
from settings import Settings

NAMES = ["Turnwise", "HAProxy", "nginx"]
SIZE = 64 << 20


def measure_bodies(site: Site, settings: Settings) -> list[Row]:
    """Bodies of 64 MiB, four at once, through proxies that have just been started, so that a peak is this one's."""
    times = 4 if settings.quick else 16
    rows: list[Row] = []
    for what, one in (("upload", upload), ("download", download)):
        cost = Row(6, f"CPU for 1 GiB of {what}", "ms", digits=0)
        rate = Row(6, f"speed of {what}", "MiB/s", better="higher", digits=0)
        peak = Row(6, f"peak RSS during {what}", "MiB")
        grown = Row(6, f"of which grown during {what}", "MiB", compared=False)
        for _ in range(settings.rounds):
            with running(site, Limits(), NAMES) as proxies:
                for proxy in proxies:
                    one_run(proxy, one, times, [cost, rate, peak, grown])
        rows += [cost, rate, peak, grown]
    return rows


def one_run(proxy: Proxy, one: Callable[[int, str, int], str], times: int, rows: list[Row]) -> None:
    cost, rate, peak, grown = rows
    transfer(one, proxy.port, 1 << 20, 4)
    reset_peak(proxy.pids())
    before, cpu, begin = proxy.rss_kib(), proxy.cpu_ns(), time.monotonic()
    cost.blame(proxy.name, transfer(one, proxy.port, SIZE, times))
    cost.add(proxy.name, (proxy.cpu_ns() - cpu) / 1e6 / (SIZE * times / (1 << 30)))
    rate.add(proxy.name, SIZE * times / (1 << 20) / (time.monotonic() - begin))
    highest = peak_rss_kib(proxy.pids())
    peak.add(proxy.name, highest / 1024)
    grown.add(proxy.name, max(0, highest - before) / 1024)
