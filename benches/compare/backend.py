"""Starts what stands behind the proxies: a static nginx, and the origin that holds, streams, and takes large bodies."""

from __future__ import annotations

import contextlib
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from proxies import LOAD_CORE, Site, fill, free_port, start, stop, wait_for_port


@contextlib.contextmanager
def backends(site: Site) -> Iterator[Site]:
    """Both backends; the site with their ports filled in."""
    with contextlib.ExitStack() as stack:
        port, origin_port = free_port(), free_port()
        config = site.folder / "backend.conf"
        values: dict[str, object] = {
            "PORT": port, "FOLDER": site.folder, "FILES": site.files, "CONNECTIONS": site.connections
        }
        config.write_text(fill("backend.conf", values))
        commands = {
            port: ["nginx", "-c", str(config)],
            origin_port: [sys.executable, str(Path(__file__).resolve().parent / "origin.py"), str(origin_port)],
        }
        for where, command in commands.items():
            log = site.folder / f"backend-{where}.log"
            process = start(command, LOAD_CORE, log)
            stack.callback(stop, process)
            wait_for_port(where, process, log)
        yield replace(site, backend_port=port, origin_port=origin_port)


def control(site: Site, what: str) -> int:
    """`hold`, `release` or `held`, said to the origin itself; how many requests are or were held."""
    with urllib.request.urlopen(f"http://127.0.0.1:{site.origin_port}/control/{what}", timeout=60) as answer:
        return int(answer.read())
