"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    rounds: int = 5
    seconds: float = 4
    quick: bool = False
    long: int = 0
