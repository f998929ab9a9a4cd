"""What is not seen is not gone: replicas are removed when their processes are."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from hale.local.engines.container_processes import living


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
