"""Attacks the real gateway as hostile clients would, and judges by what reaches an upstream that records every octet.

    http1    raw requests that servers read differently (request smuggling), each sent in three ways
    http2    frames where they do not belong, floods, windows that stay closed
    paths    spellings of a limited route's path
    keys     session keys of others, of many, and with hostile octets; what is echoed
    slow     clients that are slow, many, or gone
    admin    the operators' door: tokens, pages of other sites

After each family the gateway must be at rest and serve a fresh request. Exit code 1 when anything is not clean.

    python tests/real/hostile.py --gateway target/release/turnwise

With `--peer haproxy` or `--peer nginx` the same requests go through that proxy as well, for a count side by side; with
`--peer HOST:PORT --record HOST:PORT` through any other one that stands before the second address. Others are not held to
this gateway's contract, only to what RFC 9110, 9112 and 9113 leave nobody a choice about.
"""

import argparse
import concurrent.futures
import pathlib
import sys
import tempfile
import time

from hostile import admin, http2, judge, keys, paths, slow
from hostile.gateway import Gateway
from hostile.peers import Peer
from hostile.recorder import Recorder

KEYS, MANY_KEYS = 200_000, 1_000_000
# Those that mostly wait go beside those that mostly work.
SIDES = [["http1", "paths", "keys", "admin"], ["http2", "slow"]]
MODULES = {"http1": judge, "http2": http2, "paths": paths, "keys": keys, "slow": slow, "admin": admin}


def attack(family: str, binary: str, folder: pathlib.Path, count: int) -> tuple[int, int, list[str], list[str]]:
    """Runs one family against a gateway of its own: how many cases, how many clean, what was wrong, what it cost."""
    recorder, module = Recorder(), MODULES[family]
    gateway = Gateway(binary, folder, family, module.POLICY, recorder.address)
    try:
        if family == "http1":
            total, clean, failures = judge.run(gateway.public, recorder)
            notes = []
        elif family in ("keys", "admin"):
            more = (count,) if family == "keys" else ()
            total, clean, failures, notes = module.run(gateway, recorder, binary, folder, *more)
        else:
            total, clean, failures, notes = module.run(gateway, recorder)
        failures += [f"afterwards: {problem}" for problem in gateway.afterwards()]
    finally:
        failed = gateway.close()
        recorder.close()
    return total, clean, failures + failed, notes


def side(families: list[str], binary: str, folder: pathlib.Path, count: int) -> list[tuple[str, tuple, float]]:
    results = []
    for family in families:
        began = time.monotonic()
        try:
            outcome = attack(family, binary, folder, count)
        except Exception as problem:  # A family that breaks off is not clean, and the others are run all the same.
            outcome = (1, 0, [f"broke off: {problem!r}"], [])
        results.append((family, outcome, time.monotonic() - began))
    return results


def compare(peer: str, record: str | None, folder: pathlib.Path) -> dict[str, tuple[int, int, list[str]]]:
    recorder = Recorder(record or "127.0.0.1:0", strict=False)
    if ":" in peer:
        class Running:
            public = http2 = peer
    else:
        Running = Peer(peer, folder, recorder.address)
    try:
        outcomes = {"http1": judge.run(Running.public, recorder, strict=False)}
        outcomes["http2"] = http2.run(Running, recorder, strict=False)[:3]
    finally:
        if ":" not in peer:
            Running.close()
        recorder.close()
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", help="the turnwise binary")
    parser.add_argument("--family", action="append", choices=MODULES, help="only these")
    parser.add_argument("--long", action="store_true", help=f"{MANY_KEYS:,} session keys in place of {KEYS:,}")
    parser.add_argument("--peer", action="append", default=[], help="haproxy, nginx, or the address of another proxy")
    parser.add_argument("--record", help="where the upstream of a --peer that runs already is to listen")
    parser.add_argument("--costs", action="store_true", help="also say what each flood cost")
    options = parser.parse_args()
    if not options.gateway and not options.peer:
        parser.error("nothing to attack: --gateway or --peer")
    broken = False
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        results = []
        if options.gateway:
            sides = [[family for family in side if family in (options.family or MODULES)] for side in SIDES]
            count = MANY_KEYS if options.long else KEYS
            with concurrent.futures.ProcessPoolExecutor(len(sides)) as both:
                halves = [both.submit(side, families, options.gateway, folder, count) for families in sides]
                results = [result for half in halves for result in half.result()]
        for family, (total, clean, failures, notes), _ in results:
            for failure in failures:
                print(f"{family}  {failure[:600]}")
            for note in notes if options.costs else []:
                print(f"{family}  ({note})")
        if results:
            print(f"\n{'family':<8} {'cases':>6} {'clean':>6} {'time':>8}")
        for family, (total, clean, failures, _), seconds in results:
            print(f"{family:<8} {total:>6} {clean:>6} {seconds:>7.1f}s")
            broken |= bool(failures) or clean < total
        for peer in options.peer:
            own = folder / peer.replace(":", "-")
            own.mkdir()
            own.chmod(0o755)
            for family, (total, clean, failures) in compare(peer, options.record, own).items():
                for failure in failures:
                    print(f"{peer} {family}  {failure[:300]}")
                print(f"{peer} {family}: {clean} of {total} clean")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
