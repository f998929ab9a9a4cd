"""A revision's image and volumes: fetched in order, tried again, given up, and told about."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from hale.clock import Clock
from hale.core.deployment import Pull, Revision, Template
from hale.core.event import Event, Level
from hale.core.image import Credentials, Preparation, Progress
from hale.core.reconcile import Obstacle
from hale.core.volume import Source
from hale.errors import EngineError, EngineUnavailableError, HaleError, PreparationError, StoreError
from hale.local.images import Images
from hale.local.preparer import Preparer
from hale.local.shelf import Shelf
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore
from hale.memory.volumes import MemoryVolumes

NAME, DIGEST = "reg.test/web:2", "reg.test/web@sha256:" + "ab12" * 16
DATA = Source("data", "s3", "k1", "/opt/data", "s3://models/1/")
CACHE = Source("cache", "volume", "cache", "/cache")
WEB = Template("key", ("serve",), image=NAME)


class Engine(MemoryEngine):
    """Tells of five layers; raises `mistake` if there is one."""

    mistake: Exception | None = None

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        if self.mistake is not None:
            raise self.mistake
        reference = await super().pull(image, credentials, tell)
        tell(Progress(5, 5, 38_000_000, 38_000_000))
        return reference


class Given:
    """A preparer, its parts, and what it told."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.clock = Clock(1000.0, asyncio.get_running_loop().time())
        self.engine = Engine(self.clock)
        self.engine.registry[NAME] = DIGEST
        self.volumes = MemoryVolumes()
        self.done: list[tuple[int, str | None]] = []
        self.events: list[Event] = []
        self.troubles: list[str] = []
        self.nudges = 0
        images = Images(self.engine, MemoryStore())
        shelf = Shelf(self.volumes, self, group)
        self.preparer = Preparer(images, shelf, self.clock, self, group)

    def prepared(self, deployment_id: str, number: int, image: str | None) -> None:
        self.done.append((number, image))

    def troubled(self, deployment_id: str, why: str) -> None:
        self.troubles.append(why)

    def nudge(self, deployment_id: str) -> None:
        self.nudges += 1

    def tell(self, event: Event) -> None:
        self.events.append(event)

    async def prepare(self, template: Template = WEB, number: int = 1, image: str | None = None) -> None:
        """What came of it within a second."""
        self.preparer.prepare(self.revision(number, image), template)
        await asyncio.sleep(1)

    def revision(self, number: int = 1, image: str | None = None) -> Revision:
        return Revision(f"s{number}", "d1", number, "{}", 1.0, image=image)

    def fail(self, event: str, *, fatal: bool = False, hint: str = "") -> None:
        self.engine.registry[NAME] = PreparationError(
            f"cannot pull {NAME}: {event}", event=event, fatal=fatal, hint=hint
        )

    @property
    def now(self) -> Preparation:
        preparation = self.preparer.preparation("d1")
        assert preparation is not None
        return preparation

    def told(self) -> list[str]:
        return [f"{event.type}: {event.message}" for event in self.events]


@asynccontextmanager
async def at_work() -> AsyncIterator[Given]:
    async with asyncio.timeout(100_000), asyncio.TaskGroup() as group:
        given = Given(group)
        yield given
        given.preparer.cancel("d1")


# --- what is fetched ------------------------------------------------------------------------


async def test_the_image_comes_first_then_the_volumes_in_order() -> None:
    async with at_work() as given:
        given.engine.pull_time = given.volumes.fill_time = 0.25
        await given.prepare(replace(WEB, sources=(DATA, CACHE)))
        assert given.done == [(1, DIGEST)]
        assert given.told() == [
            f"image.pulling: pulling {NAME}",
            f"image.pulled: {NAME} is reg.test/web@sha256:ab12ab12ab12… (5 layers, 38 MB, 250 ms)",
            "volume.filling: filling volume data",
            "volume.filled: volume data is filled (1 file, 250 ms)",
        ]
        assert {(e.deployment_id, e.revision, e.level) for e in given.events} == {("d1", 1, Level.NORMAL)}
        assert given.volumes.filled == {("d1", "k1"), ("d1", "cache")}
        assert given.preparer.preparation("d1") is None


async def test_how_far_it_is_can_be_seen() -> None:
    async with at_work() as given:
        given.engine.pull_time = 60.0
        await given.prepare()
        assert given.now == Preparation(1, f"pulling {NAME}", 1000.0, Progress(0, 1))
        assert given.preparer.obstacle("d1") is None


async def test_what_is_here_already_is_not_told() -> None:
    async with at_work() as given:
        given.engine.images[DIGEST] = DIGEST
        given.volumes.filled.add(("d1", "k1"))
        await given.prepare(replace(WEB, sources=(DATA,)), image=DIGEST)
        assert (given.done, given.events, given.engine.pulls) == ([(1, DIGEST)], [], [])


async def test_an_engine_that_leaves_images_aside_pins_nothing() -> None:
    async with at_work() as given:
        given.engine.registry[NAME] = NAME
        await given.prepare()
        assert given.done == [(1, None)]


async def test_a_revision_without_an_image_asks_no_engine() -> None:
    async with at_work() as given:
        given.engine.failure = "cannot reach the engine"
        await given.prepare(replace(WEB, image=None, sources=(DATA,)))
        assert (given.done, given.troubles) == ([(1, None)], [])


async def test_one_that_is_used_though_it_may_be_stale_is_told_with_the_reason() -> None:
    async with at_work() as given:
        given.engine.images = {NAME: DIGEST, DIGEST: DIGEST}
        given.fail("image.unreachable")
        await given.prepare()
        assert given.done == [(1, DIGEST)]
        assert given.told() == [
            f"image.pulling: pulling {NAME}",
            f"image.stale: cannot pull {NAME}: image.unreachable; using the {NAME} that is here",
        ]
        assert given.events[-1].level is Level.WARNING


# --- failures -------------------------------------------------------------------------------


async def test_it_is_tried_again_after_10_s_doubling_to_300() -> None:
    async with at_work() as given:
        given.fail("image.failed")
        await given.prepare()
        tries = []
        for second in range(1, 1400):
            while len(given.engine.pulls) > len(tries):
                tries.append(second)
            await asyncio.sleep(1)
        assert tries == [1, 10, 30, 70, 150, 310, 610, 910, 1210]
        assert given.now.failures == 9
        given.engine.registry[NAME] = DIGEST
        await asyncio.sleep(300)
        assert given.done == [(1, DIGEST)]


async def test_each_reason_is_told_once_without_its_hint_and_every_failure_counts() -> None:
    async with at_work() as given:
        given.fail("image.failed", hint="try later")
        await given.prepare()
        await asyncio.sleep(60)
        given.fail("image.denied", fatal=True)
        await asyncio.sleep(60)
        given.fail("image.failed", hint="try later")
        await asyncio.sleep(200)
        assert given.told() == [
            f"image.pulling: pulling {NAME}",
            f"image.failed: cannot pull {NAME}: image.failed",
            f"image.denied: cannot pull {NAME}: image.denied without containerRegistry",
        ]
        assert [event.level for event in given.events[1:]] == [Level.WARNING] * 2
        assert given.now == replace(
            given.now,
            failures=6,
            error=f"cannot pull {NAME}: image.failed (hint: try later)",
            retry_at=1610.0,
        )
        assert given.nudges >= 6


DENIED = Obstacle(
    f"cannot pull {NAME}: image.denied without containerRegistry",
    fatal=True,
    brief="access to its image is denied",
)


async def test_the_obstacle_is_the_last_failure_until_all_is_here() -> None:
    async with at_work() as given:
        given.fail("image.denied", fatal=True)
        await given.prepare()
        assert given.preparer.obstacle("d1") == DENIED
        given.engine.pull_time = 60.0
        given.engine.registry[NAME] = DIGEST
        await asyncio.sleep(30)
        assert given.preparer.obstacle("d1") == DENIED
        assert given.now.retry_at is None
        await asyncio.sleep(60)
        assert given.preparer.obstacle("d1") is None


async def test_a_volume_that_fails_does_not_have_the_image_pulled_again() -> None:
    async with at_work() as given:
        given.volumes.failures["data"] = PreparationError(
            "cannot fill volume data: no route to host", event="volume.unreachable", fatal=False
        )
        await given.prepare(replace(WEB, sources=(DATA,)))
        await asyncio.sleep(60)
        assert given.engine.pulls == [NAME]
        assert given.told()[-1] == "volume.unreachable: cannot fill volume data: no route to host"
        given.volumes.failures.clear()
        await asyncio.sleep(60)
        assert given.done == [(1, DIGEST)]


@pytest.mark.parametrize("error", [EngineUnavailableError("cannot reach it"), StoreError("cannot reach it")])
async def test_what_is_not_the_images_failure_is_told_once_and_tried_again_soon(error: Exception) -> None:
    async with at_work() as given:
        given.engine.mistake = error
        await given.prepare()
        await asyncio.sleep(600)
        assert (given.troubles, given.events, given.now.failures) == (["cannot reach it"], [], 0)
        assert given.now.error == "cannot reach it"
        assert given.preparer.obstacle("d1") == Obstacle("cannot reach it", brief="cannot reach it")
        given.engine.mistake = None
        await asyncio.sleep(2)
        assert given.done == [(1, DIGEST)]


async def test_what_the_engine_or_a_volume_refuses_in_its_own_words_is_a_failure_in_these_words() -> None:
    async with at_work() as given:
        given.engine.mistake = EngineError("cannot look for the image: it says no", hint="look at its log")
        given.volumes.failures["data"] = HaleError("cannot keep it: read-only")
        await given.prepare(replace(WEB, sources=(DATA,)))
        assert given.told() == ["image.failed: cannot look for the image: it says no"]
        given.engine.mistake = None
        await asyncio.sleep(20)
        assert given.told()[-1] == "volume.failed: cannot keep it: read-only"


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        (WEB, "image.failed: cannot go on pulling reg.test/web:2: see the log of hale"),
        (
            replace(WEB, image=None, sources=(DATA,)),
            "volume.failed: cannot go on filling volume data: see the log of hale",
        ),
    ],
)
async def test_a_mistake_is_a_failure_and_in_the_log(
    template: Template, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_work() as given:
        given.engine.mistake = RuntimeError("a mistake")
        given.volumes.failures["data"] = RuntimeError("a mistake")  # type: ignore[assignment]
        await given.prepare(template)
        assert given.told()[-1] == kind
        assert "a mistake" in caplog.text
        given.engine.mistake = None
        given.volumes.failures.clear()
        await asyncio.sleep(20)
        assert len(given.done) == 1


async def test_in_a_hurry_it_is_tried_again_at_once_and_the_pauses_go_on_growing() -> None:
    async with at_work() as given:
        given.fail("image.denied", fatal=True)
        await given.prepare()
        await asyncio.sleep(400)
        before = len(given.engine.pulls)
        given.preparer.hurry(given.revision())
        await asyncio.sleep(1)
        assert len(given.engine.pulls) == before + 1
        assert given.now.retry_at == given.clock.now() - 1 + 300
        given.engine.registry[NAME] = DIGEST
        given.preparer.hurry(given.revision())
        await asyncio.sleep(1)
        assert given.done == [(1, DIGEST)]


async def test_a_hurry_while_a_try_is_under_way_counts_once_that_has_failed() -> None:
    async with at_work() as given:
        given.engine.pull_time = 60.0
        given.fail("image.denied", fatal=True)
        await given.prepare()
        given.preparer.hurry(given.revision())
        await asyncio.sleep(60)
        assert len(given.engine.pulls) == 2
        await asyncio.sleep(65)
        assert len(given.engine.pulls) == 2  # one hurry is one try


async def test_a_hurry_for_a_revision_that_is_not_prepared_comes_to_nothing() -> None:
    async with at_work() as given:
        given.preparer.hurry(given.revision())
        given.fail("image.denied", fatal=True)
        await given.prepare()
        given.preparer.hurry(given.revision(2))
        await asyncio.sleep(5)
        assert len(given.engine.pulls) == 1


# --- newer ones, and none -------------------------------------------------------------------


async def test_the_same_revision_again_is_the_same_preparation() -> None:
    async with at_work() as given:
        given.engine.pull_time = 60.0
        for _ in range(3):
            await given.prepare()
        assert given.engine.pulls == [NAME]


async def test_a_newer_one_is_prepared_instead() -> None:
    async with at_work() as given:
        given.engine.pull_time = 60.0
        given.fail("image.denied", fatal=True)
        await given.prepare()
        await asyncio.sleep(60)
        given.engine.registry[NAME] = DIGEST
        await given.prepare(number=2)
        assert (given.now.revision, given.now.failures, given.preparer.obstacle("d1")) == (2, 0, None)
        await asyncio.sleep(600)
        assert given.done == [(2, DIGEST)]


async def test_what_is_given_up_comes_to_nothing() -> None:
    async with at_work() as given:
        given.engine.pull_time = 60.0
        await given.prepare()
        given.preparer.cancel("d1")
        given.preparer.cancel("d1")
        await asyncio.sleep(600)
        assert given.preparer.preparation("d1") is None
        assert (given.done, given.told()) == ([], [f"image.pulling: pulling {NAME}"])


async def test_deployments_do_not_wait_for_each_other() -> None:
    async with at_work() as given:
        given.engine.pull_time = 60.0
        await given.prepare(replace(WEB, image="reg.test/huge:1"))
        given.engine.pull_time = 0.0
        given.preparer.prepare(Revision("s9", "d2", 9, "{}", 1.0), WEB)
        await asyncio.sleep(1)
        assert given.done == [(9, DIGEST)]


async def test_never_pulled_and_not_here_is_found_once_it_is() -> None:
    async with at_work() as given:
        await given.prepare(replace(WEB, pull=Pull.NEVER))
        assert given.events[-1].type == "image.not_found"
        given.engine.images[NAME] = DIGEST
        await asyncio.sleep(20)
        assert (given.done, given.engine.pulls) == ([(1, DIGEST)], [])
