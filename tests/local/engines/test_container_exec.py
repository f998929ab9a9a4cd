"""Ending a command from inside its container, for those that this machine can't see or may not end."""

import asyncio
import os

import pytest

from hale.local.engines.container_exec import _INSIDE
from hale.local.engines.environment import MARK

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]])
async def test_a_shell_ends_those_that_bear_the_mark_and_no_others(shell: list[str]) -> None:
    mark = f"exec-test-{os.getpid()}"
    marked, other = [await _sleep(name) for name in (mark, f"{mark}0")]
    try:
        killer = await asyncio.create_subprocess_exec(*shell, "-c", _INSIDE, f"{MARK}={mark}")
        await killer.wait()
        async with asyncio.timeout(30):
            assert await marked.wait() == -9
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()


async def _sleep(mark: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sleep", "1000", env={MARK: mark, "PATH": os.environ["PATH"]})
