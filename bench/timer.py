"""A bare timer in a process of its own, as busy as what it stands beside: how late anything is here."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvloop

PERIOD, WORK = 0.001, 0.0002
"""How often it is due, and what it does each time; as busy as 2,000 checks a second are."""


class Timer:
    """Runs from its making until it is asked, or ended."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "bench.timer"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def late(self, spans: Sequence[tuple[float, float]]) -> list[list[float]]:
        """Milliseconds that it was late in each span of the monotonic clock, in order of size."""
        found: list[tuple[float, float]] = json.loads(self._process.communicate()[0])
        return [sorted(late for at, late in found if began <= at < ended) for began, ended in spans]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def beside() -> Iterator[Timer]:
    timer = Timer()
    try:
        yield timer
    finally:
        timer.end()


async def _run(found: list[tuple[float, float]]) -> None:
    """When, and how many milliseconds late, until cancelled."""
    due = time.monotonic()
    while True:
        due += PERIOD
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        found.append((began, (began - due) * 1000))
        while time.monotonic() < began + WORK:
            pass


async def _until_told() -> None:
    """Runs until its standard input ends; then prints what it found."""
    found: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_run(found))
        await asyncio.to_thread(sys.stdin.read)
        task.cancel()
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(_until_told())
