"""`python -m bench [--json] [PART ...]`: measures, prints, and exits with 1 if a limit was missed.

A part is a module of this package with a function `rows`, plain or async, that returns its figures.
"""

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence

import uvloop

from bench.table import Row, as_json, as_text

PARTS = ("checks", "lateness", "gateway", "cutoff", "ready", "daemon", "containers")


def measure(part: str) -> Sequence[Row]:
    rows = importlib.import_module(f"bench.{part}").rows()
    return list(uvloop.run(rows) if inspect.iscoroutine(rows) else rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Measure hale, each figure against its limit.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    words = parser.parse_args()
    if unknown := [part for part in words.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; parts are: {', '.join(PARTS)}")
    measured = []
    for part in words.parts or PARTS:
        print(f"measuring {part} ...", file=sys.stderr)
        rows = measure(part)
        measured.append((part, rows))
        if not words.json:
            print(as_text(part, rows), flush=True)
    if words.json:
        print(as_json(measured))
    return int(any(row.ok is False for _, rows in measured for row in rows))


sys.exit(main())
