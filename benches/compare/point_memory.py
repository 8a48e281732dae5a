"""Point 3: what a request that waits and a connection that does nothing cost in resident memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from backend import Site, control
from clients import Fleet, problem_of, request
from load import Kind, wrk
from measure import OURS, Row
from proxies import Limits, Proxy, running
from settings import Settings

BODY = 1024
WARM = 4  # connections of the warm-up: what it leaves behind must not hide what is measured


def body(session: str) -> bytes:
    """A JSON body of 1 KiB that names its session, for those that look for it there."""
    empty = len(json.dumps({"session_id": session, "text": ""}))
    return json.dumps({"session_id": session, "text": "x" * (BODY - empty)}).encode()


def held(session: str) -> bytes:
    return request("POST", "/origin/hold", session, body(session))


def fill_queue(site: Site, proxy: Proxy, fleet: Fleet, make: Callable[[int], bytes], waiting: int) -> str:
    """Lets all requests of a fleet in, of which `waiting` are to wait. What is wrong, or nothing."""
    control(site, "hold")
    fleet.send(make)
    deadline = time.monotonic() + 30
    while (now := proxy.waiting()) != waiting:
        if time.monotonic() > deadline:
            return f"{now} requests wait instead of {waiting}"
        time.sleep(0.1)
    time.sleep(0.5)
    return ""


def waiting_kib(
    site: Site, limits: Limits, name: str, make: Callable[[int], bytes], count: int
) -> tuple[float, float, str]:
    """KiB for each waiting request, KiB that stay for each when all have gone, and what went wrong."""
    with running(site, limits, [name]) as (proxy,):
        wrk(proxy.port, WARM, 1, Kind("POST", BODY))
        before = proxy.rss_kib()
        fleet = Fleet(proxy.port, count)
        try:
            problem = fill_queue(site, proxy, fleet, make, count - 1)
            during = proxy.rss_kib()
            control(site, "release")
            problem = problem or problem_of(fleet.collect(60))
        finally:
            fleet.close()
            control(site, "release")
        time.sleep(1)
        return (during - before) / count, (proxy.rss_kib() - before) / count, problem


def how_many(settings: Settings) -> tuple[int, int]:
    """Connections, and rounds. Memory hardly differs from one round to the next."""
    return 1000 if settings.quick else 5000, min(settings.rounds, 3)


def measure_waiting(site: Site, settings: Settings) -> list[Row]:
    """Three ways to wait with Turnwise, beside the one way with HAProxy: in the queue of its server."""
    count, rounds = how_many(settings)
    one_place = Limits(origin_at_once=1)
    in_body = Limits(session_key="{ json: /session_id }")
    ways: dict[str, tuple[Limits, Callable[[int], bytes]]] = {
        "for its turn, key in a header": (Limits(), lambda _: held("one")),
        "for its turn, key in the JSON body": (in_body, lambda _: held("one")),
        "for a place, each of another session": (one_place, lambda number: held(f"w{number}")),
    }
    rows = {way: Row(3, f"a request of 1 KiB that waits {way}, {count:,} of them", "KiB") for way in ways}
    left = Row(3, "stays of each of them when all have been answered", "KiB")
    for _ in range(rounds):
        theirs = waiting_kib(site, one_place, "HAProxy", lambda number: held(f"w{number}"), count)
        left.add("HAProxy", theirs[1])
        for way, (limits, make) in ways.items():
            ours = waiting_kib(site, limits, OURS, make, count)
            rows[way].add(OURS, ours[0])
            rows[way].add("HAProxy", theirs[0])
            rows[way].blame(OURS, ours[2])
            rows[way].blame("HAProxy", theirs[2])
        left.add(OURS, ours[1])
    return [*rows.values(), left]


def measure_idle(site: Site, settings: Settings) -> list[Row]:
    """Connections that have had one request each and stay open."""
    count, rounds = how_many(settings)
    row = Row(3, f"an idle keep-alive connection after one request, {count:,} of them", "KiB")
    for _ in range(rounds):
        for name in (OURS, "HAProxy", "nginx"):
            with running(site, Limits(), [name]) as (proxy,):
                wrk(proxy.port, WARM, 1)
                before = proxy.rss_kib()
                fleet = Fleet(proxy.port, count)
                try:
                    seen = fleet.one_by_one(lambda number: request("GET", "/", f"idle{number}"))
                    row.blame(name, problem_of(seen))
                    # A connection rests after a second, and memory is given back once a second.
                    time.sleep(4)
                    row.add(name, (proxy.rss_kib() - before) / count)
                finally:
                    fleet.close()
    return [row]


def measure_long(site: Site, settings: Settings) -> list[Row]:
    """Very many requests, each of a session never seen before: does anything grow?"""
    total = settings.long
    if not total:
        return []
    row = Row(3, f"resident after {total:,} requests over ever new sessions", "MiB")
    with running(site, Limits(), [OURS]) as (proxy,):
        warm = wrk(proxy.port, 64, 2, Kind(keys=0, prefix="warm"))
        print(f"long run: before: {proxy.rss_kib() / 1024:.1f} MiB", flush=True)
        sent, told = 0, 0
        seen: list[float] = []
        while sent < total:
            seconds = max(1.0, min(30.0, min(total - sent, total / 10) / warm.per_second))
            load = wrk(proxy.port, 64, seconds, Kind(keys=0, first=sent))
            row.blame(OURS, load.problem)
            sent += load.requests + 64  # those under way at the end have used up their keys, too
            if sent * 10 // total > told:
                told = sent * 10 // total
                seen.append(proxy.rss_kib() / 1024)
                print(f"long run: {sent:,} requests: {seen[-1]:.1f} MiB", flush=True)
        row.add(OURS, seen[-1])
        row.note = "every 10 %: " + ", ".join(f"{value:.1f}" for value in seen) + " MiB"
    return [row]
