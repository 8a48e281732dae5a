"""Everything that can go wrong around the gateway, row by row, against the real binary.

Each row has an upstream, a policy and a gateway of its own. The judge is the upstream: it counts what really runs in it and
keeps what reached it. After every row the upstream must be idle again, a fresh request be served, exactly as many requests
as the limit says run at once (fewer is a leak, more is broken), all gauges be zero, the gateway's descriptors be as before,
and the answers and what was counted be those that were to be expected. Exit code 1 when a row does not hold.

    python tests/real/faults.py --gateway target/release/turnwise [--only PART_OF_A_NAME ...]

Some rows need root (namespaces of their own for mounts), and one libfaketime.
"""

import argparse
import sys
import time

from faults import draining, leaving, policies, servers, system
from faults.table import rows_of, run

MODULES = [leaving, servers, policies, system, draining]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the turnwise binary")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only rows with one of these in their names")
    parser.add_argument("--at-once", type=int, default=6, help="how many rows run at once")
    parser.add_argument("--list", action="store_true", help="only say which rows there are")
    options = parser.parse_args()
    rows = [row for row in rows_of(*MODULES) if not options.only or any(part in row.name for part in options.only)]
    if options.list:
        print("\n".join(row.name for row in rows))
        return 0
    if not rows:
        sys.exit("there is no such row")
    began = time.monotonic()
    failed = run(rows, options.gateway, options.at_once)
    print(f"{len(rows)} rows, {failed} do not hold, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
