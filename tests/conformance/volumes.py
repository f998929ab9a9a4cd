"""What every Volumes promises: filled once, whole or not at all, kept as long as they are wanted."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import PurePosixPath
from typing import Protocol

import pytest

from hale.core.image import Progress
from hale.core.volume import Source
from hale.errors import PreparationError
from hale.ports import Volumes


class Rig(Protocol):
    """Volumes, and what the suite needs to know of their world."""

    volumes: Volumes

    def source(self, name: str = "models", version: int = 1) -> Source:
        """A read-only integration that can be filled; another version is another volume."""

    def missing(self) -> Source:
        """One that can't be filled."""

    def whole(self, deployment_id: str, source: Source) -> bool:
        """Whether what the integration has is there."""

    def anything(self, deployment_id: str) -> bool:
        """Whether anything is left of the deployment's volumes."""


def unheard(_: Progress) -> None: ...


async def refusal(volumes: Volumes, source: Source) -> PreparationError:
    with pytest.raises(PreparationError) as caught:
        await volumes.fill("d1", source, unheard)
    return caught.value


class VolumesSuite(ABC):
    """The promises. `opened` gives a rig for each test."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Rig]: ...

    async def test_each_volume_has_one_absolute_folder(self) -> None:
        async with self.opened() as rig:
            folder = rig.volumes.folder
            one, two = rig.source(), rig.source(version=2)
            assert PurePosixPath(folder("d1", one)).is_absolute()
            assert folder("d1", one) == folder("d1", rig.source())
            assert len({folder("d1", one), folder("d1", two), folder("d2", one)}) == 3

    async def test_what_was_filled_is_whole_and_how_far_it_is_is_told_from_the_beginning(self) -> None:
        async with self.opened() as rig:
            heard: list[bool] = []

            def tell(progress: Progress) -> None:
                heard.append(rig.whole("d1", rig.source()))

            assert not rig.whole("d1", rig.source())
            await rig.volumes.fill("d1", rig.source(), tell)
            assert rig.whole("d1", rig.source())
            assert heard
            assert heard[0] is False
            assert not rig.anything("d2")

    async def test_what_is_whole_is_left_as_it_is_without_a_word(self) -> None:
        async with self.opened() as rig:
            heard: list[Progress] = []
            await rig.volumes.fill("d1", rig.source(), unheard)
            await rig.volumes.fill("d1", rig.source(), heard.append)
            assert heard == []
            assert rig.whole("d1", rig.source())

    async def test_a_writable_volume_is_made_and_kept(self) -> None:
        async with self.opened() as rig:
            cache = Source("cache", "volume", key="cache", target="/cache")
            for _ in range(2):
                await rig.volumes.fill("d1", cache, unheard)
            await rig.volumes.keep("d1", {"cache"})
            assert rig.anything("d1")

    async def test_what_can_not_be_filled_says_why_and_is_not_whole(self) -> None:
        async with self.opened() as rig:
            error = await refusal(rig.volumes, rig.missing())
            assert error.event.startswith("volume.")
            assert error.message.startswith("cannot ")
            assert not rig.whole("d1", rig.missing())

    async def test_what_was_broken_off_is_not_taken_for_whole_and_is_filled_anew(self) -> None:
        async with self.opened() as rig:
            begun = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(rig.volumes.fill("d1", rig.source(), lambda _: begun.set()))
                await begun.wait()
                task.cancel()
            assert task.cancelled()
            assert not rig.whole("d1", rig.source())
            await rig.volumes.fill("d1", rig.source(), unheard)
            assert rig.whole("d1", rig.source())

    async def test_only_what_is_kept_stays_and_only_of_this_deployment(self) -> None:
        async with self.opened() as rig:
            one, two = rig.source(), rig.source(version=2)
            for owner in ("d1", "d2"):
                for source in (one, two):
                    await rig.volumes.fill(owner, source, unheard)
            await rig.volumes.keep("d1", {two.key, "never filled"})
            assert not rig.whole("d1", one)
            assert rig.whole("d1", two)
            assert rig.whole("d2", one)
            await rig.volumes.fill("d1", one, unheard)
            assert rig.whole("d1", one)

    async def test_without_keys_nothing_is_left(self) -> None:
        async with self.opened() as rig:
            for source in (rig.source(), Source("cache", "volume", key="cache", target="/cache")):
                await rig.volumes.fill("d1", source, unheard)
            for _ in range(2):
                await rig.volumes.keep("d1", ())
                assert not rig.anything("d1")
            await rig.volumes.keep("never heard of", ())
