"""Measures Turnwise beside HAProxy and nginx, and writes the report. `run` is the way to start it."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import report
from backend import backends
from measure import Row
from point_bodies import measure_bodies
from point_lane import measure_lane
from point_memory import measure_idle, measure_long, measure_waiting
from point_requests import measure_requests
from point_scale import measure_bystanders, measure_forgetting, measure_queues, measure_sessions
from point_streams import measure_events, measure_many
from proxies import LOAD_CORE, Site
from self_check import check_limits
from settings import Settings

# The points of the report, some in parts, in the order in which they are measured.
PARTS: dict[str, Callable[[Site, Settings], list[Row]]] = {
    "0": check_limits,
    "1": measure_requests,
    "2": measure_lane,
    "3a": measure_waiting,
    "3b": measure_idle,
    "3c": measure_long,
    "4a": measure_sessions,
    "4b": measure_bystanders,
    "4c": measure_queues,
    "4d": measure_forgetting,
    "5a": measure_events,
    "5b": measure_many,
    "6": measure_bodies,
}


def chosen(only: str) -> list[str]:
    """`3` is all of 3, `3a` its first part. 0, whether the limits hold, is always there: all else rests on it."""
    if not only:
        return list(PARTS)
    words = ["0", *filter(None, only.split(","))]
    for word in words:
        if not any(part.startswith(word) for part in PARTS):
            sys.exit(f"there is no point {word}")
    return [part for part in PARTS if any(part.startswith(word) for word in words)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches/compare/run", description=__doc__)
    parser.add_argument("--turnwise", type=Path, required=True, help="the program to measure")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement (5, quick: 2)")
    parser.add_argument("--seconds", type=float, help="length of one run under load (4, quick: 1)")
    points = "1 requests, 2 one lane, 3 memory, 4 scale, 5 event streams, 6 large bodies"
    parser.add_argument("--only", default="", help=f"what to measure, as in 1,3a (default: all): {points}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter: to see that everything works")
    parser.add_argument("--long", type=int, default=0, help="requests over ever new sessions in point 3 (0: none)")
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--markdown", type=Path, help="write the report there")
    return parser.parse_args()


def open_files() -> int:
    """As many descriptors as we are given; 5,000 connections through a proxy are 10,000 for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (65536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
            return wanted
        except (ValueError, OSError):
            continue
    return soft


def measure(part: str, site: Site, settings: Settings) -> list[Row]:
    """One part. When it breaks down, the report says so, and the others are still measured."""
    try:
        return PARTS[part](site, settings)
    except Exception as problem:  # whatever a proxy, a client or wrk died of
        traceback.print_exc()
        return [Row(int(part[0]), f"part {part}", "", problems=[f"broke down: {problem!r}"])]


def main() -> int:
    asked = arguments()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the proxy, one for load and backend")
    settings = Settings(
        rounds=asked.rounds or (2 if asked.quick else 5),
        seconds=asked.seconds or (1 if asked.quick else 4),
        quick=asked.quick,
        long=asked.long,
    )
    parts = chosen(asked.only)
    files = open_files()
    if files < 16384:
        sys.exit(f"{files} open files are too few for 5,000 connections through a proxy; see `ulimit -Hn`")
    os.sched_setaffinity(0, {LOAD_CORE})
    # An end by a signal is an exit like any other: everything that was started is ended.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    about = report.machine(asked.turnwise.resolve())
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="turnwise-compare-") as folder:
        os.chmod(folder, 0o755)  # nginx's worker may be another user
        site = Site(Path(folder), asked.turnwise.resolve(), connections=(files - 100) // 3, files=files)
        with backends(site) as site:
            for part in parts:
                measured = measure(part, site, settings)
                print(report.terminal(measured), flush=True)
                rows += measured
                if asked.json:
                    asked.json.write_text(report.as_json(rows, about))
                if asked.markdown:
                    asked.markdown.write_text(report.markdown(rows, about))
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
