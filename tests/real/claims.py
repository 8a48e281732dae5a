"""What a test claims: that something holds now, or soon."""

import asyncio
import time
import typing

# Far beyond what anything takes: conditions are waited for, and machines may be slow.
SOON = 20


class Failed(Exception):
    """Something does not hold."""


def require(holds: object, what: str, *evidence: object) -> None:
    if not holds:
        raise Failed(" | ".join([what, *map(str, evidence)]))


def comes_true(condition: typing.Callable[[], typing.Any], within: float = SOON, every: float = 0.01) -> typing.Any:
    """What a condition comes to: as soon as it is something, or when the time is over."""
    deadline = time.monotonic() + within
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return found


def soon(
    what: str,
    condition: typing.Callable[[], typing.Any],
    within: float = SOON,
    every: float = 0.01,
    evidence: typing.Callable[[], object] | None = None,
) -> typing.Any:
    """Requires that a condition comes to something; says to what. `evidence` is asked for where it does not."""
    found = comes_true(condition, within, every)
    if not found:
        require(False, f"not within {within} s: {what}", *([evidence()] if evidence else []))
    return found


async def soon_beside(
    what: str,
    condition: typing.Callable[[], typing.Awaitable],
    within: float = SOON,
    every: float = 0.01,
    evidence: typing.Callable[[], typing.Awaitable] | None = None,
) -> typing.Any:
    """As `soon`, while other tasks go on."""
    deadline = time.monotonic() + within
    while not (found := await condition()):
        if time.monotonic() > deadline:
            require(False, f"not within {within} s: {what}", *([await evidence()] if evidence else []))
        await asyncio.sleep(every)
    return found


def give_it_a_chance() -> None:
    """For what must not happen: long enough that it mostly would."""
    time.sleep(0.15)
