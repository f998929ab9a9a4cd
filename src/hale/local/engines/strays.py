"""Finding and ending what a replica started: its group, its session, and what bears its mark elsewhere."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hale.local.engines.environment import MARK

_PROC = Path("/proc")
_ENDED = ("Z", "X")


def members(session: int, mark: str) -> list[int]:
    """Pids of the session (0: of none), or with the mark in their environment; the living alone."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in _pids() if _belongs(pid, session, wanted)]


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


def _belongs(pid: int, session: int, wanted: bytes) -> bool:
    fields = _stat(pid)
    if fields is None or fields[0] in _ENDED:
        return False
    if session and int(fields[3]) == session:
        return True
    try:
        return wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (the state) on."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
