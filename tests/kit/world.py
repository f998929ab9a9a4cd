"""Namespaces for the mounts and processes of a container engine: all that it starts ends with them."""

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from kit.processes import running
from kit.until import until

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_UNSHARED = ("--mount", "--pid", "--fork", "--mount-proc")


class World:
    """Held by one process, the first of a process namespace: when it ends, the kernel ends all the others.

    `entry` are lines of a shell script that mount what is needed.
    """

    def __init__(self, entry: str, env: Mapping[str, str]) -> None:
        script = f"set -e\n{entry}\necho ready\nexec catatonit -P\n"
        self._holder = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--kill-child=KILL", *_UNSHARED, "sh", "-c", script],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = 0
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.end()
            raise RuntimeError("cannot make namespaces for a container engine (see the lines above)")
        pid = self._holder.pid
        self.first = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    @property
    def processes(self) -> list[int]:
        """Pids of all that runs in it, outside of containers that have namespaces of their own."""
        ours = Path(f"/proc/{self.first}/ns/pid").readlink()
        return [int(each.name) for each in Path("/proc").iterdir() if _of_namespace(each, ours)]

    def inside(self, *command: str) -> list[str]:
        """The command that runs it there."""
        return ["nsenter", "--target", str(self.first), "--mount", "--pid", *command]

    def end(self) -> None:
        self._holder.kill()  # its child, the first process of the namespace, is killed with it
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()
        # It ends last: the kernel waits for all the others.
        until(lambda: not self.first or not running(self.first), what="nothing that it started is left")


def _of_namespace(process: Path, namespace: Path) -> bool:
    with contextlib.suppress(OSError):
        return process.name.isdigit() and (process / "ns/pid").readlink() == namespace
    return False
