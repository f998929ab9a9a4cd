"""Which containers have processes, as the kernel sees it.

Podman does not notice the end of a container whose monitor (conmon) was killed: it runs for ever, to Podman.
"""

import re
from pathlib import Path

_PROC = Path("/proc")
_ID = re.compile(rb"[0-9a-f]{64}")
_MONITOR = b"conmon"


def living() -> frozenset[str]:
    """Blocking. Ids of containers with a process here; those in a virtual machine are not seen."""
    found: set[bytes] = set()
    for path in _PROC.glob("[0-9]*/cgroup"):
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError:
            continue  # it has ended meanwhile
        found.update(name for line in lines if _MONITOR not in line for name in _ID.findall(line))
    return frozenset(name.decode() for name in found)
