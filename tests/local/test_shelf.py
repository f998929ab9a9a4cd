"""Volumes are filled and removed one at a time, and what can't be removed is removed later."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import pytest

from hale.core.image import Progress
from hale.core.volume import Source
from hale.errors import HaleError
from hale.local.shelf import Shelf
from hale.memory.volumes import MemoryVolumes

ONE = Source("data", "s3", "k1", "/opt/data", "s3://models/1/")
TWO = Source("data", "s3", "k2", "/opt/data", "s3://models/2/")
ALL, NONE = frozenset({"k1", "k2"}), frozenset[str]()


class Volumes(MemoryVolumes):
    """Notes when calls begin and end; a broken-off filling takes `tidying` seconds to end."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.tidying = 0.0
        self.mistake: Exception | None = None

    async def fill(self, deployment_id: str, source: Source, tell: Callable[[Progress], None]) -> None:
        self.calls.append(f"fill {source.key}")
        try:
            await super().fill(deployment_id, source, tell)
        except asyncio.CancelledError:
            await asyncio.sleep(self.tidying)
            raise
        finally:
            self.calls.append(f"filled {source.key}")

    async def keep(self, deployment_id: str, keys: Collection[str]) -> None:
        self.calls.append(f"keep {' '.join(sorted(keys)) or 'none'}")
        await asyncio.sleep(1)
        if self.mistake is not None:
            raise self.mistake
        await super().keep(deployment_id, keys)


class Given:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.volumes = Volumes()
        self.shelf = Shelf(self.volumes, self, group)
        self.troubles: list[str] = []
        self.nudges = 0

    def troubled(self, deployment_id: str, why: str) -> None:
        self.troubles.append(why)

    def nudge(self, deployment_id: str) -> None:
        self.nudges += 1

    def fill(self, source: Source, deployment_id: str = "d1") -> asyncio.Task[None]:
        return self.group.create_task(self.shelf.fill(deployment_id, source, lambda _: None))


@asynccontextmanager
async def at_work() -> AsyncIterator[Given]:
    async with asyncio.timeout(100_000), asyncio.TaskGroup() as group:
        yield Given(group)


async def test_what_is_kept_is_kept_once() -> None:
    async with at_work() as given:
        assert not given.shelf.keep("d1", ALL)
        await asyncio.sleep(5)
        assert given.shelf.keep("d1", ALL)
        assert given.volumes.calls == ["keep k1 k2"]
        assert given.nudges == 0


async def test_who_waits_for_it_has_a_turn_afterwards() -> None:
    async with at_work() as given:
        assert not given.shelf.keep("d1", NONE, wait=True)
        await asyncio.sleep(5)
        assert (given.nudges, given.shelf.keep("d1", NONE, wait=True)) == (1, True)


async def test_what_was_asked_for_meanwhile_is_asked_for_again() -> None:
    async with at_work() as given:
        given.shelf.keep("d1", ALL)
        assert not given.shelf.keep("d1", NONE)
        await asyncio.sleep(5)
        assert given.nudges == 1
        assert not given.shelf.keep("d1", NONE)
        await asyncio.sleep(5)
        assert given.volumes.calls == ["keep k1 k2", "keep none"]


async def test_nothing_is_removed_while_a_volume_is_filled_nor_filled_while_one_is_removed() -> None:
    async with at_work() as given:
        given.volumes.fill_time = 10.0
        given.shelf.keep("d1", NONE)
        given.fill(ONE)
        await asyncio.sleep(5)
        given.shelf.keep("d1", frozenset({"k1"}))
        given.fill(TWO)
        await asyncio.sleep(60)
        assert given.volumes.calls == [
            "keep none", "fill k1", "filled k1", "keep k1", "fill k2", "filled k2",
        ]  # fmt: skip
        assert given.volumes.filled == {("d1", "k1"), ("d1", "k2")}


async def test_a_filling_waits_for_the_end_of_one_that_was_given_up() -> None:
    async with at_work() as given:
        given.volumes.fill_time, given.volumes.tidying = 10.0, 5.0
        task = given.fill(ONE)
        await asyncio.sleep(1)
        task.cancel()
        given.fill(TWO)
        await asyncio.sleep(60)
        assert given.volumes.calls == ["fill k1", "filled k1", "fill k2", "filled k2"]


async def test_after_a_filling_there_may_be_more_than_is_kept() -> None:
    async with at_work() as given:
        given.shelf.keep("d1", NONE)
        await asyncio.sleep(5)
        await given.fill(ONE)
        assert not given.shelf.keep("d1", NONE)
        await asyncio.sleep(5)
        assert given.volumes.filled == set()


async def test_deployments_do_not_wait_for_each_other() -> None:
    async with at_work() as given:
        given.volumes.fill_time = 1000.0
        given.fill(ONE)
        given.shelf.keep("d2", NONE)
        await asyncio.sleep(5)
        assert given.shelf.keep("d2", NONE)


@pytest.mark.parametrize(
    ("mistake", "why"),
    [
        (HaleError("cannot remove it: busy"), "cannot remove it: busy"),
        (RuntimeError("a mistake"), "cannot remove volumes: RuntimeError('a mistake')"),
    ],
)
async def test_what_can_not_be_removed_is_told_once_and_tried_again(mistake: Exception, why: str) -> None:
    async with at_work() as given:
        given.volumes.mistake = mistake
        for _ in range(5):
            assert not given.shelf.keep("d1", NONE)
            await asyncio.sleep(10)
        assert (given.troubles, given.nudges) == ([why], 5)
        given.volumes.mistake = None
        given.shelf.keep("d1", NONE)
        await asyncio.sleep(10)
        assert given.shelf.keep("d1", NONE)


async def test_of_a_forgotten_deployment_nothing_is_known() -> None:
    async with at_work() as given:
        given.shelf.keep("d1", NONE)
        await asyncio.sleep(5)
        given.shelf.forget("d1")
        assert not given.shelf.keep("d1", NONE)
