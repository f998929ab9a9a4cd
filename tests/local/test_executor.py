"""Actions are carried out once at a time, and what became of each is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from hale.clock import Clock
from hale.core.deployment import Deployment, Pull, Template
from hale.core.reconcile import Action, Drain, Forget, Launch, Stop
from hale.core.replica import Phase, Replica
from hale.errors import EngineError, EngineUnavailableError, PreparationError
from hale.local.executor import Executor
from hale.local.images import Images
from hale.local.managed import server_id
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore
from hale.ports import Instance, Route, Server
from hale.ports import Launch as EngineLaunch
from tests.core.given import replica

TEMPLATE = Template("new", command=("serve",), ports=(80,))
WEB = Deployment("d1", "p", "web", "web", 1.0)
ONE = replica(Phase.PENDING, id="r1")


class Engine(MemoryEngine):
    """Takes `takes` seconds for everything, and raises `error` then."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.takes = 0.0
        self.error: Exception | None = None
        self.calls: list[str] = []

    async def _act(self, what: str) -> None:
        self.calls.append(what)
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error

    async def start(self, launch: EngineLaunch) -> Instance:
        await self._act(f"start {launch.replica_id}.{launch.attempt}")
        return await super().start(launch)

    async def stop(self, replica_id: str, *, grace: float) -> None:
        await self._act(f"stop {replica_id}, grace {grace:g}")
        await super().stop(replica_id, grace=grace)

    async def remove(self, replica_id: str) -> None:
        await self._act(f"remove {replica_id}")
        await super().remove(replica_id)


class Balancer(MemoryBalancer):
    """Can't count with a reason in `error`."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    async def in_flight(self) -> dict[str, int]:
        if self.error is not None:
            raise self.error
        return dict(await super().in_flight())


@dataclass
class Given:
    """An executor, its parts, and what it told."""

    engine: Engine
    balancer: Balancer
    told: list[str] = field(default_factory=list)
    executor: Executor = field(init=False)
    store: MemoryStore = field(default_factory=MemoryStore)

    @property
    def images(self) -> Images:
        return Images(self.engine, self.store)

    def perform(self, action: Action) -> None:
        self.executor.perform(action, WEB, TEMPLATE)

    def launched(self, replica: Replica, instance: Instance) -> None:
        self.told.append(f"launched {replica.id}.{instance.attempt}")

    def refused(self, replica: Replica, why: str) -> None:
        self.told.append(f"refused {replica.id}: {why}")

    def drained(self, replica: Replica) -> None:
        self.told.append(f"drained {replica.id}")

    def stopped(self, replica: Replica) -> None:
        self.told.append(f"stopped {replica.id}")

    def abandoned(self, replica: Replica) -> None:
        self.told.append(f"abandoned {replica.id}")

    def image_gone(self, replica: Replica, reference: str) -> None:
        self.told.append(f"gone {replica.id}: {reference}")

    def image_changed(self, replica: Replica, name: str, reference: str) -> None:
        self.told.append(f"changed {replica.id}: {name} is {reference}")

    def failing(self, replica: Replica, why: str) -> None:
        self.told.append(f"troubled {replica.id}: {why}")

    async def forgotten(self, replica: Replica) -> None:
        self.told.append(f"forgotten {replica.id}")

    async def carry(self, *servers: str) -> None:
        """Requests are under way on these."""
        table = tuple(Server(name, "127.0.0.1", 1, ready=True) for name in servers)
        await self.balancer.apply([Route("d1", ("web.test",), table)])
        for _ in servers:
            self.balancer.begin("web.test")


@asynccontextmanager
async def at_work() -> AsyncIterator[Given]:
    given = Given(Engine(Clock.start()), Balancer())
    async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
        given.executor = Executor(given.engine, given.images, given.balancer, given, group)
        yield given


async def test_a_launch_is_told_with_its_instance() -> None:
    async with at_work() as given:
        given.perform(Launch(ONE))
    assert given.told == ["launched r1.1"]
    assert given.engine.launches == [EngineLaunch("r1", 1, "d1", "web", 1, TEMPLATE)]


async def test_a_start_that_is_refused_says_why() -> None:
    async with at_work() as given:
        given.engine.error = EngineError("cannot start serve: no such file")
        given.perform(Launch(ONE))
    assert given.told == ["refused r1: cannot start serve: no such file"]


async def test_an_engine_that_does_not_answer_says_nothing_about_the_replica() -> None:
    async with at_work() as given:
        given.engine.error = EngineUnavailableError("cannot reach the engine")
        given.perform(Launch(ONE))
    assert given.told == ["troubled r1: cannot reach the engine"]


@pytest.mark.parametrize("action", [Launch(ONE), Stop(ONE, 3.0), Forget(ONE)])
async def test_the_same_again_while_it_is_under_way_is_one_action(action: Action) -> None:
    async with at_work() as given:
        given.engine.takes = 10.0
        for _ in range(3):
            given.perform(action)
            await asyncio.sleep(1)
    assert (len(given.engine.calls), len(given.told)) == (1, 1)


async def test_the_same_again_later_is_done_again() -> None:
    async with at_work() as given:
        for _ in range(2):
            given.perform(Stop(ONE, 3.0))
            await asyncio.sleep(1)
    assert given.engine.calls == ["stop r1, grace 3", "stop r1, grace 3"]


async def test_another_attempt_another_replica_and_another_action_do_not_wait() -> None:
    async with at_work() as given:
        given.engine.takes = 10.0
        given.perform(Launch(ONE))
        given.perform(Launch(replace(ONE, attempt=2)))
        given.perform(Launch(replace(ONE, id="r2")))
        given.perform(Stop(ONE, 0.0))
        await asyncio.sleep(1)
        assert sorted(given.engine.calls) == ["start r1.1", "start r1.2", "start r2.1", "stop r1, grace 0"]


async def test_one_that_is_being_started_can_be_asked_about() -> None:
    async with at_work() as given:
        given.engine.takes = 10.0
        given.perform(Launch(ONE))
        assert given.executor.busy(["r1"])
        assert not given.executor.busy(["r2"])
        await asyncio.sleep(11)
        assert not given.executor.busy(["r1"])


@pytest.mark.parametrize("action", [Launch(ONE), Stop(ONE, 3.0), Forget(ONE)])
async def test_a_mistake_in_one_action_is_told_after_a_pause_and_ends_nothing_else(action: Action) -> None:
    async with at_work() as given:
        given.engine.error = RuntimeError("a mistake")
        given.perform(action)
        await asyncio.sleep(0.9)
        assert given.told == []
        given.perform(action)  # not before the pause is over
        await asyncio.sleep(0.2)
        kind = type(action).__name__.lower()
        assert given.told == [f"troubled r1: cannot {kind} replica r1: see the log of hale"]
        given.engine.error = None
        given.perform(action)
    assert (len(given.engine.calls), len(given.told)) == (2, 2)


async def test_a_replica_without_requests_is_drained_soon() -> None:
    async with at_work() as given:
        given.perform(Drain(ONE))
        await asyncio.sleep(0.1)
        assert given.told == ["drained r1"]


async def test_those_that_drain_are_told_as_they_come_to_an_end() -> None:
    two = replace(ONE, id="r2")
    async with at_work() as given:
        await given.carry(server_id(ONE), server_id(two))
        given.perform(Drain(ONE))
        given.perform(Drain(two))
        given.perform(Drain(ONE))
        await asyncio.sleep(10)
        assert given.told == []
        given.balancer.finish(server_id(two))
        await asyncio.sleep(1)
        assert given.told == ["drained r2"]
        given.balancer.finish(server_id(ONE))
    assert given.told == ["drained r2", "drained r1"]


async def test_what_ended_or_lost_patience_is_not_waited_for() -> None:
    async with at_work() as given:
        await given.carry(server_id(ONE))
        given.perform(Drain(ONE))
        await asyncio.sleep(1)
        given.executor.undrain(ONE)
        given.executor.undrain(ONE)
    assert given.told == []


@pytest.mark.parametrize("error", [EngineError("cannot count"), RuntimeError("a mistake")])
async def test_requests_that_can_not_be_counted_are_counted_later(error: Exception) -> None:
    async with at_work() as given:
        given.balancer.error = error
        given.perform(Drain(ONE))
        await asyncio.sleep(10)
        assert given.told == []
        given.balancer.error = None
        await asyncio.sleep(2)
        assert given.told == ["drained r1"]


async def test_draining_begins_again_after_all_were_drained() -> None:
    async with at_work() as given:
        for attempt in (1, 2):
            given.perform(Drain(replace(ONE, attempt=attempt)))
            await asyncio.sleep(1)
    assert given.told == ["drained r1", "drained r1"]


async def test_a_stray_is_ended_and_forgotten() -> None:
    async with at_work() as given:
        await given.engine.start(EngineLaunch("stray", 1, "d1", "web", 1, TEMPLATE))
        given.executor.end_stray("stray")
        given.executor.end_stray("stray")
    assert await given.engine.instances() == []
    assert (given.engine.calls[1:], given.told) == (["stop stray, grace 10", "remove stray"], [])


@pytest.mark.parametrize("error", [EngineError("cannot end it"), RuntimeError("a mistake")])
async def test_a_stray_that_can_not_be_ended_is_ended_when_it_can_be(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_work() as given:
        await given.engine.start(EngineLaunch("stray", 1, "d1", "web", 1, TEMPLATE))
        given.engine.error = error
        given.executor.end_stray("stray")
        await asyncio.sleep(60)
        assert len(await given.engine.instances()) == 1
        assert [each.getMessage() for each in caplog.records] == [f"cannot end replica stray: {error}"]
        given.engine.error = None
        await given.executor.no_strays()
        assert await given.engine.instances() == []


# --- images of starts -----------------------------------------------------------------------

NAME, PINNED = "reg.test/web:2", "reg.test/web@sha256:a"
PULLED = replace(TEMPLATE, image=NAME, pinned=PINNED)
ALWAYS = replace(PULLED, pull=Pull.ALWAYS)


async def launched(given: Given, template: Template) -> list[Template]:
    """The templates that were started."""
    given.executor.perform(Launch(ONE), WEB, template)
    await asyncio.sleep(60)
    return [each.template for each in given.engine.launches]


async def test_what_is_pulled_before_each_start_is_what_is_started() -> None:
    async with at_work() as given:
        given.engine.registry[NAME] = "reg.test/web@sha256:b"
        assert await launched(given, ALWAYS) == [replace(ALWAYS, pinned="reg.test/web@sha256:b")]
    assert given.told == [f"changed r1: {NAME} is reg.test/web@sha256:b", "launched r1.1"]


async def test_what_is_pulled_and_is_the_same_is_not_told() -> None:
    async with at_work() as given:
        given.engine.registry[NAME] = PINNED
        assert await launched(given, ALWAYS) == [ALWAYS]
    assert (given.engine.pulls, given.told) == ([NAME], ["launched r1.1"])


@pytest.mark.parametrize("pull", [Pull.REVISION, Pull.NEVER])
async def test_others_are_not_pulled_for_a_start(pull: Pull) -> None:
    async with at_work() as given:
        given.engine.images[PINNED] = PINNED
        await launched(given, replace(PULLED, pull=pull))
    assert (given.engine.pulls, given.told) == ([], ["launched r1.1"])


async def test_a_start_whose_image_can_not_be_pulled_is_refused_with_the_hint() -> None:
    async with at_work() as given:
        given.engine.registry[NAME] = PreparationError(
            "cannot pull it: access is denied", event="image.denied", fatal=True, hint="log in"
        )
        assert await launched(given, ALWAYS) == []
    assert given.told == [
        "refused r1: cannot pull it: access is denied without containerRegistry (hint: log in)"
    ]


async def test_an_image_that_is_gone_is_pulled_once_more_just_that_and_started() -> None:
    async with at_work() as given:
        given.engine.registry[NAME] = "reg.test/web@sha256:b"
        assert await launched(given, PULLED) == [PULLED]
    assert (given.engine.pulls, given.told) == ([PINNED], [f"gone r1: {PINNED}", "launched r1.1"])


async def test_an_image_that_is_gone_and_shall_not_be_pulled_is_a_refusal() -> None:
    async with at_work() as given:
        assert await launched(given, replace(PULLED, pull=Pull.NEVER)) == []
    assert given.told == [f"refused r1: cannot start replica r1: {PINNED} is not here"]
    assert given.engine.pulls == []


async def test_an_engine_that_does_not_answer_to_a_pull_says_nothing_about_the_replica() -> None:
    async with at_work() as given:
        given.engine.failure = "cannot reach the engine"
        await launched(given, ALWAYS)
    assert given.told == ["troubled r1: cannot reach the engine"]


async def test_a_start_that_waits_for_its_image_can_be_given_up() -> None:
    async with at_work() as given:
        given.engine.pull_time = 3000.0
        assert await launched(given, ALWAYS) == []
        assert given.executor.busy(["r1"])
        given.executor.abandon(replace(ONE, attempt=2))  # another one
        await asyncio.sleep(1)
        assert given.executor.busy(["r1"])
        given.executor.abandon(ONE)
        await asyncio.sleep(1)
        assert not given.executor.busy(["r1"])
        given.executor.abandon(ONE)
    assert (given.told, given.engine.launches) == (["abandoned r1"], [])


async def test_a_start_that_does_not_wait_for_an_image_is_seen_through() -> None:
    async with at_work() as given:
        given.engine.takes = 10.0
        given.perform(Launch(ONE))
        await asyncio.sleep(1)
        given.executor.abandon(ONE)
    assert given.told == ["launched r1.1"]
