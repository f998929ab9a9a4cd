"""Finding what belongs to attempts: by session or by mark, for many at once, and each only its own."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hale.local.engines import strays
from hale.local.engines.environment import MARK

pytestmark = pytest.mark.real_time

Started = Callable[..., int]


@pytest.fixture
def started() -> Iterator[Started]:
    """Start a process that sleeps, in a session of its own, with this mark; its pid."""
    running: list[subprocess.Popen[bytes]] = []

    def start(mark: str) -> int:
        process = subprocess.Popen(["sleep", "1000"], env=os.environ | {MARK: mark}, start_new_session=True)
        running.append(process)
        while f"{MARK}={mark}".encode() not in Path(f"/proc/{process.pid}/environ").read_bytes():
            pass  # right after its start it has none yet
        return process.pid

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_each_family_has_its_own_by_session_or_by_mark(started: Started) -> None:
    first, second, third = started("one"), started("two"), started("three")
    found = strays.families([(0, "one"), (second, "no such mark"), (0, "two"), (0, "nobody")])
    assert found == [[first], [second], [], []]
    assert strays.members(0, "three") == [third]


async def test_those_who_ask_while_somebody_looks_are_looked_for_together(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = [f"mark-{number}" for number in range(6)]
    pids = [started(mark) for mark in marks]
    passes: list[int] = []
    look = strays.families

    def counted(wanted: Sequence[tuple[int, str]]) -> list[list[int]]:
        passes.append(len(wanted))
        return look(wanted)

    monkeypatch.setattr(strays, "families", counted)
    search = strays.Search()
    found = await asyncio.gather(*(search.members(0, mark) for mark in marks))
    assert found == [[pid] for pid in pids]
    assert passes == [1, 5]


async def test_one_who_gives_up_takes_nobody_with_him(started: Started) -> None:
    pid = started("patient")
    search = strays.Search()
    impatient = asyncio.ensure_future(search.members(0, "impatient"))
    await asyncio.sleep(0)
    patient = asyncio.ensure_future(search.members(0, "patient"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == [pid]
