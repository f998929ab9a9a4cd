"""Which containers have processes, as the kernel sees it.

Podman does not notice the end of a container whose monitor (conmon) was killed: it runs for ever, to Podman.
"""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_ID = re.compile(rb"[0-9a-f]{64}")
_MONITOR = b"conmon"
_GONE = (errno.ENOENT, errno.ESRCH)
_FIRST = re.compile(r"^NSpid:.*\t1$", re.MULTILINE)
_RUNTIME = "runc:"
"""What runc calls itself until it becomes the container's command."""
_DONE_ABOUT_IT = re.compile(r"^Sig(?:Blk|Cgt):\s*([0-9a-f]+)$", re.MULTILINE)


def living() -> frozenset[str]:
    """Blocking. Ids of containers with a process here; those in a virtual machine are not seen.

    OSError if not all can be looked at (no file is free): what was not seen is not gone.
    """
    return frozenset(name.decode() for pid in _pids() for name in _containers(pid))


def first(container: str) -> int | None:
    """Blocking. The container's first process, as it is counted here: its engine may count otherwise."""
    for pid in _pids():
        if container.encode() in _containers(pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                if _FIRST.search((_PROC / pid / "status").read_text()):
                    return int(pid)
    return None


def _pids() -> Iterator[str]:
    return filter(str.isdigit, os.listdir(_PROC))  # noqa: PTH208  (names alone, for thousands)


def _containers(pid: str) -> Sequence[bytes]:
    """The one that the process is in, if any, by its control groups."""
    try:
        lines = (_PROC / pid / "cgroup").read_bytes().split(b"\n")
    except OSError as error:
        if error.errno in _GONE:
            return ()
        raise
    return [name for line in lines if _MONITOR not in line for name in _ID.findall(line)]


def hears(pid: int, number: int) -> bool:
    """Whether a container's first process does something about a signal. Otherwise the kernel drops it.

    True as well if it can't be seen from here.
    """
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return True
    if status.partition("\n")[0].removeprefix("Name:").strip().startswith(_RUNTIME):
        return False
    return any(int(mask, 16) >> (number - 1) & 1 for mask in _DONE_ABOUT_IT.findall(status))
