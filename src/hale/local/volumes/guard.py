"""The guard of a command: when it has ended, nothing of the command is left.

A process of its own between the daemon and what fills a volume, run as a file with the standard library
alone. The daemon holds the other end of its standard input; closed, by intention or because the daemon was
killed, it is the order to end the command at once with everything that it has started. The guard ends after
all of it, with the command's exit code.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_NICE = 10
_NOT_FOUND = 127


def main(command: list[str]) -> int:
    """Run the command, politely: checks and replicas come first."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.nice(_NICE)
    os.umask(0o022)
    guard, pid = os.getpid(), os.fork()
    if not pid:
        try:
            os.setpgid(0, 0)
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() == guard:
                _become(command)
        finally:
            os._exit(_NOT_FOUND)
    _wait(pid)
    _, status = os.waitpid(pid, 0)
    _end_all(pid)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become(command: list[str]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(1, 2)
    try:
        os.execvp(command[0], command)  # noqa: S606  (no shell is meant)
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {os.strerror(error.errno or 0)}\n".encode())


def _wait(pid: int) -> None:
    """Until the command has ended, which it does when the daemon goes."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN)
    ready = [descriptor for descriptor, _ in poll.poll()]
    if ended not in ready:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)  # before it had a group of its own


def _end_all(group: int) -> None:
    """What it leaves behind comes to us, from whatever session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
