"""Before anything is measured: does each proxy answer, and does it enforce what the comparison says it enforces?"""

from __future__ import annotations

import time
from collections import Counter

from backend import Site, control
from clients import Fleet, READ, connect, request, whole
from measure import OURS, Row
from proxies import Limits, Proxy, running
from settings import Settings

NAMES = ["Turnwise", "HAProxy", "nginx"]
BODY = b'"an answer of fifty octets"}'


def ask(proxy: Proxy, data: bytes) -> bytes:
    """One request on a connection of its own."""
    with connect(proxy.port) as sock:
        sock.sendall(data)
        got = b""
        while not whole(got):
            piece = sock.recv(READ)
            if not piece:
                break
            got += piece
        return got


def status(answer: bytes) -> int:
    return int(answer[9:12] or b"0")


def check_limits(site: Site, _: Settings) -> list[Row]:
    return [answers(site), rates(site), *turns(site)]


def answers(site: Site) -> Row:
    row = Row(0, "GET and POST answered 200 with the backend's body, of 2", "", digits=0, compared=False)
    with running(site, Limits(), NAMES) as proxies:
        for proxy in proxies:
            got = [ask(proxy, request("GET", "/", "check")), ask(proxy, request("POST", "/", "check", b"x" * 1024))]
            good = sum(status(one) == 200 and one.endswith(BODY) for one in got)
            row.add(proxy.name, good)
            row.blame(proxy.name, "" if good == 2 else f"answers {got!r}")
            if proxy.name == OURS:
                absent = [name for name in (b"server-timing:", b"x-request-id:") if name not in got[0].lower()]
                row.blame(OURS, f"no {absent!r} in the answer" if absent else "")
    return row


def rates(site: Site) -> Row:
    """nginx's smallest burst lets one more through than the others' limits do."""
    row = Row(0, "refused of 5 requests at once with a limit of 1 a second", "", digits=0, compared=False)
    with running(site, Limits(rate=1, burst=1), NAMES) as proxies:
        for proxy in proxies:
            got = [status(ask(proxy, request("GET", "/", "busy"))) for _ in range(5)]
            other = status(ask(proxy, request("GET", "/", "other")))
            refused = sum(one in (429, 503) for one in got)
            row.add(proxy.name, refused)
            row.blame(proxy.name, "" if refused in (3, 4) and other == 200 else f"{got}, another session {other}")
    return row


def turns(site: Site) -> list[Row]:
    """Eight requests at once, where one may be at the backend."""
    at_once = Row(0, "at the backend of 8 requests at once, limit 1", "", digits=0, compared=False)
    served = Row(0, "of these answered 200 in the end (nginx cannot queue)", "", digits=0, compared=False)
    over_all = Row(0, "the same, each of another session, limit over all", "", digits=0, compared=False)
    one, all_in = Limits(nginx_session_at_once=1), 8
    cases = [
        (one, "Turnwise", "same", at_once, served), (one.but(origin_at_once=1), "HAProxy", "same", at_once, served),
        (one, "nginx", "same", at_once, served), (one.but(at_once=1), "Turnwise", "", over_all, None),
    ]
    for limits, name, session, row, ends in cases:
        with running(site, limits, [name]) as (proxy,):
            seen, got = crowd(site, proxy, session, all_in)
        row.add(name, seen)
        row.blame(name, "" if seen == 1 else f"{seen} were at the backend at once")
        if ends:
            ends.add(name, got["200"])
            right = Counter({"200": 1, "503": all_in - 1}) if name == "nginx" else Counter({"200": all_in})
            ends.blame(name, "" if got == right else f"answers {dict(got)}")
    return [at_once, served, over_all]


def crowd(site: Site, proxy: Proxy, session: str, size: int) -> tuple[int, Counter[str]]:
    """How many of these requests the backend holds at once, and how all were answered."""
    control(site, "hold")
    fleet = Fleet(proxy.port, size)
    try:
        fleet.send(lambda number: request("POST", "/origin/hold", session or f"session{number}", b"x" * 1024))
        time.sleep(0.5)
        seen = control(site, "held")
        control(site, "release")
        return seen, fleet.collect(10)
    finally:
        control(site, "release")
        fleet.close()
