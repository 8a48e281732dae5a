"""Runs rows side by side and prints them as a table."""

import concurrent.futures
import time
import traceback
import typing

from claims import Failed


class Row(typing.NamedTuple):
    name: str
    # Gets the path of the binary; says what came, or raises `Failed`.
    run: typing.Callable[[str], str]


def rows_of(*modules: typing.Any) -> list[Row]:
    return [row for module in modules for row in module.ROWS]


def run(rows: list[Row], binary: str, at_once: int) -> int:
    """How many did not hold."""
    width = max(len(row.name) for row in rows)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(one, row, binary) for row in rows]
        for row, future in zip(rows, running):
            holds, came, seconds = future.result()
            failed += not holds
            print(f"{row.name:<{width}}  {'ok ' if holds else 'NOT'} {seconds:5.1f}s  {came}", flush=True)
    return failed


def one(row: Row, binary: str) -> tuple[bool, str, float]:
    began = time.monotonic()
    try:
        holds, came = True, row.run(binary)
    except Failed as failed:
        holds, came = False, str(failed)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        holds, came = False, f"{type(error).__name__}: {error} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"
    return holds, came, time.monotonic() - began
