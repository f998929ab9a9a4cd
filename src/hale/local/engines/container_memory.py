"""Whether the kernel ended a container since its memory was used up, where the engine does not know.

On hosts with the first version of cgroups Podman often misses it. The kernel's own log names the container.
"""

import os
from collections.abc import Iterator
from contextlib import suppress

_LOG = "/dev/kmsg"
_RECORD = 8 << 10


def ran_out(container: str) -> bool:
    """Blocking. False as well where the kernel's log may not be read, or has gone on too far."""
    return any(b"oom-kill:" in record and container.encode() in record for record in _records())


def _records() -> Iterator[bytes]:
    try:
        log = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while True:
            # Records that were overwritten while we read are said to be lost, once.
            with suppress(BrokenPipeError):
                yield os.read(log, _RECORD)
    except OSError:
        return
    finally:
        os.close(log)
