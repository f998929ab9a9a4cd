"""Whose processes are still there, by the folder they work in; and ending them by their pids."""

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from kit.until import until


def processes_of(folder: Path) -> Mapping[int, str]:
    """Command line by pid of each process with `folder` in its command, environment, cwd or open files."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _belongs(entry, str(folder)):
            found[int(entry.name)] = _text(entry / "cmdline").strip()
    return found


def end_all(folder: Path) -> None:
    """Kill whatever belongs to the folder, until nothing does."""

    def none_left() -> bool:
        left = processes_of(folder)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    until(none_left, within=30, what=f"no process left of {folder}")


def running(pid: int) -> bool:
    """Whether it runs; one that has ended and was not reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def parent_of(pid: int) -> int:
    """Its parent's pid; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _belongs(entry: Path, folder: str) -> bool:
    if not running(int(entry.name)):
        return False
    if folder in _text(entry / "cmdline") or folder in _text(entry / "environ"):
        return True
    return any(_within(link, folder) for link in (entry / "cwd", *(entry / "fd" / n for n in "0123456789")))


def _within(link: Path, folder: str) -> bool:
    try:
        target = link.readlink()
    except OSError:
        return False
    return str(target) == folder or str(target).startswith(f"{folder}/")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def halt(pid: int) -> None:
    """Stop a process until SIGCONT; returns once each of its threads stands still, which takes a moment."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _stands_still(pid), what=f"process {pid} stands still")


def _stands_still(pid: int) -> bool:
    states = []
    for status in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(status.read_text().rpartition(")")[2].split()[0])
    return all(state in "TtZX" for state in states)
