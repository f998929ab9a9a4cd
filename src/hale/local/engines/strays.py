"""Finding and ending what a replica started: its group, its session, and what bears its mark elsewhere.

There are two marks, both inherited: a variable of the environment, which a process may clear or write its
title over (nginx does), and a resource limit that has no effect but to be a number of the attempt's own:
the microseconds that a real-time process may run without a pause, some thousand centuries.
"""

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hale.local.engines.environment import MARK

_PROC = Path("/proc")
_ENDED = ("Z", "X")
_VARIABLE = f"{MARK}=".encode()
_NUMBER = re.compile(rb" (\d{19}) ")
"""What `limit` gives has as many digits."""


def limit(mark: str) -> int:
    """The number of the attempt."""
    return 1 << 61 | int.from_bytes(hashlib.sha256(mark.encode()).digest()[:7])


def members(session: int, mark: str) -> list[int]:
    """Pids of the session (0: of none), or that bear a mark; the living alone."""
    return families([(session, mark)])[0]


def families(wanted: Sequence[tuple[int, str]]) -> list[list[int]]:
    """The members of each, by one pass over all processes: reading about them is what it costs."""
    found: list[list[int]] = [[] for _ in wanted]
    sessions = {session: pids for (session, _), pids in zip(wanted, found, strict=True) if session}
    variables = {f"{MARK}={mark}".encode(): pids for (_, mark), pids in zip(wanted, found, strict=True)}
    numbers = {b"%d" % limit(mark): pids for (_, mark), pids in zip(wanted, found, strict=True)}
    for pid in _pids():
        fields = _stat(pid)
        if fields is None or fields[0] in _ENDED:
            continue
        family = sessions.get(int(fields[3]))
        if family is None:
            family = _marked(pid, numbers, variables)
        if family is not None:
            family.append(pid)
    return found


def _marked(
    pid: int, numbers: Mapping[bytes, list[int]], variables: Mapping[bytes, list[int]]
) -> list[int] | None:
    for number in _NUMBER.findall(_read(pid, "limits")):
        if number in numbers:
            return numbers[number]
    environ = _read(pid, "environ")
    if _VARIABLE in environ:
        return next((variables[each] for each in environ.split(b"\0") if each in variables), None)
    return None


class Search:
    """`members` for many at once: those who ask while somebody looks are looked for together, next."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting: list[_Asked] = []

    async def members(self, session: int, mark: str) -> list[int]:
        asked = _Asked(session, mark)
        self._waiting.append(asked)
        async with self._turn:
            if asked.found is None:
                asking = list(self._waiting)
                wanted = [(each.session, each.mark) for each in asking]
                found = await asyncio.to_thread(families, wanted)
                del self._waiting[: len(asking)]
                for each, pids in zip(asking, found, strict=True):
                    each.found = pids
        return asked.found or []


@dataclass(slots=True)
class _Asked:
    session: int
    mark: str
    found: list[int] | None = None


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


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (the state) on."""
    text = _read(pid, "stat")
    return text.rpartition(b")")[2].decode().split() if text else None
