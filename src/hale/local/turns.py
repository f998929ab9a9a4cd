"""Short turns on the processor, for a daemon that has little to do but has to do it at once.

Linux 6.12 and later let a thread ask for the length of its turns; who asks for short ones gets no more of the
processor, but gets it sooner. No privilege is needed. Older kernels take note of nothing.
"""

import ctypes
import logging
import os
import platform
import struct

log = logging.getLogger(__name__)

_TURN = 100_000
"""Nanoseconds, the least that the kernel takes: about one check."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
_RESET_ON_FORK = 1
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""The kernel's struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period."""


def short_turns() -> bool:
    """Ask for them, for this thread alone: what it starts has ordinary ones. False if that can't be asked."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False  # whoever chose another policy for us knows better
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, _TURN, 0, 0)
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.syscall(number, 0, wanted, 0):
        log.debug("no short turns: %s", os.strerror(ctypes.get_errno()))
        return False
    return True
