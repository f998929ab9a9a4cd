"""A network of our own: a test neither reaches the internet nor touches the machine's network.

As root on Linux each process that runs tests moves into a fresh network namespace with nothing but loopback.
What it starts lives there too: hale, its gateway, Podman with its bridges and firewall rules. All of that
ends with the last process in it. Elsewhere nothing is done, and what needs it is skipped with words.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def enter_own_network() -> bool:
    """Move this thread, and all that it starts from now on, into a new network; False where that can't be.

    To be called in the main thread before there are others.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False  # a container without the right to
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        name = b"lo".ljust(16, b"\0")
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, name + bytes(24))
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, name + struct.pack("H", flags | _IFF_UP) + bytes(22))
    return True


def in_own_network() -> bool:
    """Whether nothing leads out of our network: it has loopback, and what Podman added."""
    names = [name for _, name in socket.if_nameindex()]
    return all(name == "lo" or name.startswith(("podman", "veth")) for name in names)
