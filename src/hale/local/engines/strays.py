"""Finding and ending what a replica started: its group, its session, and what bears its mark elsewhere.

There are two marks, both inherited: a variable of the environment, which a process may clear or write its
title over (nginx does), and a resource limit that has no effect but to be a number of the attempt's own:
the microseconds that a real-time process may run without a pause, some thousand centuries.
"""

import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hale.local.engines.environment import MARK

_PROC = Path("/proc")
_ENDED = ("Z", "X")


def limit(mark: str) -> int:
    """The number of the attempt."""
    return 1 << 61 | int.from_bytes(hashlib.sha256(mark.encode()).digest()[:7])


def members(session: int, mark: str) -> list[int]:
    """Pids of the session (0: of none), or that bear a mark; the living alone."""
    variable, number = f"{MARK}={mark}".encode(), b" %d " % limit(mark)
    return [pid for pid in _pids() if _belongs(pid, session, variable, number)]


def end(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields is not None else None


def living(pid: int) -> bool:
    fields = _stat(pid)
    return fields is not None and fields[0] not in _ENDED


def _pids() -> Iterator[int]:
    for name in os.listdir(_PROC):  # noqa: PTH208  (names alone, for thousands of processes)
        if name.isdigit():
            yield int(name)


def _belongs(pid: int, session: int, variable: bytes, number: bytes) -> bool:
    fields = _stat(pid)
    if fields is None or fields[0] in _ENDED:
        return False
    if session and int(fields[3]) == session:
        return True
    return number in _read(pid, "limits") or variable in _read(pid, "environ").split(b"\0")


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (the state) on."""
    text = _read(pid, "stat")
    return text.rpartition(b")")[2].decode().split() if text else None
