"""Rows as a table for the terminal, as markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from measure import Row
from proxies import LOAD_CORE, PROXY_CORE, WITH_FIELDS

COLUMNS = ["Turnwise", "HAProxy", "nginx"]
TITLES = {
    0: "Do the limits hold?",
    1: "One request",
    2: "One lane of width 1, 64 clients",
    3: "Memory",
    4: "Scale (Turnwise alone)",
    5: "Event streams",
    6: "Large bodies",
}
HEAD = ["", "unit", *COLUMNS, "Turnwise / HAProxy", "Turnwise / nginx", "rounds"]


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(row: Row, to: str) -> str:
    spread = row.ratio(to)
    return "" if spread is None else f"{spread.median:.2f} ({spread.low:.2f}..{spread.high:.2f})"


def cells(row: Row) -> list[str]:
    values = [number(row.median(name), row.digits) for name in COLUMNS]
    unit = f"{row.unit}, more is better" if row.better == "higher" and row.compared else row.unit
    return [row.what, unit, *values, ratio(row, "HAProxy"), ratio(row, "nginx"), str(row.rounds())]


def compared_with(row: Row, name: str) -> str:
    return f"; Turnwise / it: {ratio(row, name)}" if name == WITH_FIELDS else ""


def asides(row: Row) -> list[str]:
    """What does not fit the columns: other samples, the row's note, and everything that went wrong."""
    lines = [
        f"{row.what}: {name} {number(row.median(name), row.digits)} {row.unit}{compared_with(row, name)}"
        for name in row.samples if name not in COLUMNS
    ]
    if row.note:
        lines.append(f"{row.what}: {row.note}")
    return lines + [f"**NOT VALID** {row.what}: {problem}" for problem in row.problems]


def table_of(rows: list[Row]) -> list[list[str]]:
    """Head and rows, without the columns in which nothing stands."""
    table = [HEAD] + [cells(row) for row in rows]
    kept = [column for column in range(len(HEAD)) if column == 0 or any(line[column] for line in table[1:])]
    return [[line[column] for column in kept] for line in table]


def terminal(rows: list[Row]) -> str:
    """All rows, in columns."""
    out: list[str] = []
    for point in sorted({row.point for row in rows}):
        chosen = [row for row in rows if row.point == point]
        table = table_of(chosen)
        widths = [max(map(len, column)) for column in zip(*table)]
        out.append(f"\n{point}. {TITLES[point]}")
        for line in table:
            first, *others = zip(line, widths)
            out.append("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip())
        out += ["  " + aside.replace("**", "!!") for row in chosen for aside in asides(row)]
    return "\n".join(out)


def first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def machine(turnwise: Path) -> dict[str, str]:
    """What the numbers hold for."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "Turnwise": first_line(str(turnwise), "--version"),
        "HAProxy": first_line("haproxy", "-v").split(" - ")[0],
        "nginx": first_line("nginx", "-v"),
        "wrk": first_line("wrk", "-v"),
        "Python": platform.python_version(),
    }


def markdown(rows: list[Row], about: dict[str, str]) -> str:
    """The report as a page."""
    out = ["# Turnwise, HAProxy and nginx side by side", ""]
    out += [f"- {key}: {value}" for key, value in about.items()]
    out += [
        f"- each proxy alone on core {PROXY_CORE} with one worker; load and backends on core {LOAD_CORE}; loopback",
        "- rounds are interleaved; a value is the median of its rounds, a ratio the median of the rounds' ratios"
        " (least..greatest)",
        "- configurations: [turnwise.yaml](conf/turnwise.yaml), [haproxy.cfg](conf/haproxy.cfg),"
        " [nginx.conf](conf/nginx.conf), [backend.conf](conf/backend.conf)",
    ]
    for point in sorted({row.point for row in rows}):
        chosen = [row for row in rows if row.point == point]
        head, *lines = ("| " + " | ".join(line) + " |" for line in table_of(chosen))
        out += ["", f"## {point}. {TITLES[point]}", "", head, "|---|" + "---:|" * (head.count("|") - 2), *lines]
        notes = [f"- {aside}" for row in chosen for aside in asides(row)]
        out += ["", *notes] if notes else []
    return "\n".join(out) + "\n"


def as_json(rows: list[Row], about: dict[str, str]) -> str:
    """Everything, with every single sample."""
    return json.dumps({"about": about, "rows": [vars(row) for row in rows]}, indent=1, ensure_ascii=False) + "\n"
