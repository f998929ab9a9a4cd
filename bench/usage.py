"""What a process uses, as the kernel counts it."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def memory(pid: int, which: str = "Rss") -> float:
    """Its resident memory in MB; with `Pss`, its share of what it shares with others."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{which}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"cannot read {which} of process {pid}: {text!r}")
    return int(found[1]) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time that it has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_seconds_of_all(pids: Iterable[int]) -> float:
    """CPU time that they and all they waited for have used; those that are gone meanwhile count nothing."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
