"""Free ports for replicas, outside the range from which the kernel gives ports to connections."""

import random
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from hale.errors import EngineError

_FIRST, _LAST = 15000, 65535
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int, taken: Collection[int]) -> list[int]:
    """`count` different ports that nobody listens on and that are not `taken`."""
    found: list[int] = []
    for port in _candidates():
        if len(found) == count:
            break
        if port not in taken and _free(port):
            found.append(port)
    if len(found) < count:
        raise EngineError("cannot find a free port: all are in use", hint="end what listens on this machine")
    return found


def _candidates() -> Iterator[int]:
    """From a place of chance on: two servers of hale on one machine seldom try the same."""
    first, last = _ephemeral()
    below, above = range(_FIRST, min(first, _LAST + 1)), range(max(last + 1, _FIRST), _LAST + 1)
    yield from _from_anywhere(below, above)
    yield from _from_anywhere(range(max(first, 1024), last + 1))


def _from_anywhere(*parts: range) -> Iterator[int]:
    """All of the parts, as if they were one ring; no list of them is made for the few that are taken."""
    count = sum(map(len, parts))
    begin = random.randrange(count) if count else 0  # noqa: S311  (chance, not a secret)
    before = 0
    for part in parts:
        yield from part[max(0, begin - before) :]
        before += len(part)
    for part in parts:
        yield from part[: max(0, begin)]
        begin -= len(part)


def _ephemeral() -> tuple[int, int]:
    try:
        first, last = _RANGE.read_text().split()
    except OSError:
        return 32768, 60999
    return int(first), int(last)


def _free(port: int) -> bool:
    """Neither on this address nor on all of them."""
    for host in ("127.0.0.1", "0.0.0.0"):  # noqa: S104  (asked, not served)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
