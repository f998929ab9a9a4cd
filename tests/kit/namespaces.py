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

HOST = "203.0.113.1"
"""An address of this network, of which containers too can reach servers that listen there or on 0.0.0.0."""

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _SIOCSIFADDR, _IFF_UP = 0x8914, 0x8916, 0x1


def enter_own_network() -> bool:
    """Move this thread, and all that it starts from now on, into a new network; False where that can't be.

    To be called in the main thread before there are others.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False  # a container without the right to
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(HOST))
        fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s8x", b"lo:1", address))
    return True


def in_own_network() -> bool:
    """Whether nothing leads out of our network: it has loopback, and what Podman and Docker added."""
    names = [name for _, name in socket.if_nameindex()]
    return all(name == "lo" or name.startswith(("podman", "docker0", "br-", "veth")) for name in names)
