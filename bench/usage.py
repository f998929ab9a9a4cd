"""What a process uses, as the kernel counts it."""

import re
from pathlib import Path


def memory(pid: int, which: str = "Rss") -> float:
    """Its resident memory in MB; with `Pss`, its share of what it shares with others."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{which}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"cannot read {which} of process {pid}: {text!r}")
    return int(found[1]) * 1024 / 1e6


def children(pid: int) -> list[int]:
    """The processes that it started and that still run."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
