"""What is not seen is not gone: replicas are removed when their processes are."""

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from hale.local.engines.container_processes import hears, living


@contextmanager
def no_file_free() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def test_nothing_is_said_when_no_file_is_free() -> None:
    with no_file_free(), pytest.raises(OSError) as caught:  # noqa: PT011
        living()
    assert caught.value.errno == errno.EMFILE


def test_a_process_hears_a_signal_once_it_does_something_about_it() -> None:
    with subprocess.Popen(
        ["sh", "-c", "read go; trap : USR1; echo; read end"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = hears(process.pid, signal.SIGUSR1)
        process.stdin.write(b"go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert (before, hears(process.pid, signal.SIGUSR1)) == (False, True)
        process.stdin.write(b"end\n")
    assert hears(process.pid, signal.SIGUSR1)  # nobody is there to wait for
