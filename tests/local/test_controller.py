"""The controller where scenarios do not reach: between two awaits, under mistakes, over a long time."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.core.probe import Probe, ProbeKind, ProbeResult
from hale.core.replica import Phase, Replica
from hale.errors import StoreError
from hale.local.checks import Target
from hale.local.controller import Controller
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore, State
from hale.memory.volumes import MemoryVolumes
from hale.ports import Instance, Launch

DAY = 86_400.0


class Engine(MemoryEngine):
    """Takes `starting` seconds to start and `looking` to say what it held before; counts looks."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.starting = self.looking = 0.0
        self.looks = 0
        self.starts: list[str] = []

    async def start(self, launch: Launch) -> Instance:
        self.starts.append(f"{launch.replica_id}.{launch.attempt}")
        await asyncio.sleep(self.starting)
        return await super().start(launch)

    async def instances(self) -> Sequence[Instance]:
        self.looks += 1
        held = await super().instances()
        await asyncio.sleep(self.looking)
        return held


class Store(MemoryStore):
    """Takes `writing` seconds to write replicas, can't write with a reason in `failure`.

    Calls named in `mistakes` raise what nobody foresaw.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writing = 0.0
        self.failure = ""
        self.mistakes: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in object.__getattribute__(self, "__dict__").get("mistakes", ()):
            raise RuntimeError(f"a mistake in {name}")
        return object.__getattribute__(self, name)

    async def put_replicas(self, states: Sequence[State]) -> None:
        await asyncio.sleep(self.writing)
        if self.failure:
            raise StoreError(self.failure)
        await super().put_replicas(states)

    async def put_revision(self, revision: Revision) -> None:
        if self.failure:
            raise StoreError(self.failure)
        await super().put_revision(revision)


class Rig:
    """A machine; `hale` is a controller at work on it. Checks pass within 4 ms, those `failing` do not."""

    def __init__(self) -> None:
        self.clock = Clock(1_000_000.0, asyncio.get_running_loop().time())
        self.store = Store()
        self.engine = Engine(self.clock)
        self.balancer = MemoryBalancer()
        self.volumes = MemoryVolumes()
        self.failing: set[tuple[str, ProbeKind]] = set()
        self._ids = (f"r{number}" for number in itertools.count(1))
        self.controller: Controller

    def begin(
        self, probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        ok = (target.replica_id, probe.kind) not in self.failing
        result = ProbeResult(self.clock.now(), ok=ok, status=200 if ok else 503, eager=eager)
        return asyncio.get_running_loop().call_later(0.004, report, result).cancel

    @asynccontextmanager
    async def hale(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = await self.start(group)
            yield
            task.cancel()

    async def start(self, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        ready = asyncio.Event()
        task = self.begin_hale(group, ready.set)
        await ready.wait()
        return task

    def begin_hale(self, group: asyncio.TaskGroup, ready: Callable[[], None]) -> asyncio.Task[None]:
        self.engine._listeners.clear()
        self.controller = Controller(
            self.store,
            self.engine,
            self.balancer,
            self.begin,
            self.clock,
            volumes=self.volumes,
            machines={},
            hosts=lambda deployment: (f"{deployment.slug}.test",),
            news=lambda: None,
            new_id=lambda: next(self._ids),
        )
        return group.create_task(self.controller.run(ready))

    async def deploy(self, name: str = "web", replicas: int = 1, number: int = 1, **others: Any) -> None:
        spec = {
            "apiVersion": "v1",
            "name": name,
            "command": ["serve"],
            "resources": {"machineType": "C4", "replicas": replicas, "ports": [80]},
            "healthChecks": {"readiness": {"path": "/"}, "liveness": {"path": "/"}},
            **others,
        }
        deployment = Deployment(name, "p", name, name, self.clock.now())
        revision = Revision(f"{name}-{number}", name, number, json.dumps(spec), self.clock.now())
        await self.store.apply(deployment, revision)
        self.controller.wake(name)

    def replicas(self, name: str = "web") -> dict[str, Replica]:
        managed = self.controller.world.managed.get(name)
        return managed.replicas if managed else {}

    def phases(self, name: str = "web") -> list[Phase]:
        return [each.phase for each in self.replicas(name).values() if each.phase is not Phase.STOPPED]

    async def told(self, kind: str) -> list[str]:
        return [each.message for each in await self.store.events() if each.type == kind]

    async def running(self) -> list[str]:
        return [f"{each.replica_id}.{each.attempt}" for each in await self.engine.instances() if each.running]


# --- between two awaits ---------------------------------------------------------------------


async def test_what_changed_while_a_turn_was_written_down_is_not_done_any_more() -> None:
    """A start that came back meanwhile is not begun again: it would be told twice."""
    rig = Rig()
    async with rig.hale():
        rig.engine.starting, rig.store.writing = 1.0, 0.9
        await rig.deploy(replicas=1, env=[{"name": "PORT", "value": "1"}])
        await asyncio.sleep(1.5)
        rig.controller.journal.changed("r1")
        rig.controller.wake("web")
        await asyncio.sleep(60)
        assert rig.engine.starts == ["r1.1"]
        assert await rig.told("replica.note") == ["env: PORT is set by hale"]


async def test_a_note_on_how_replicas_are_started_is_told_once_for_a_revision() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=3, env=[{"name": "PORT", "value": "1"}])
        await asyncio.sleep(10)
        rig.engine.exit("r1", code=1)
        await asyncio.sleep(60)
        assert "r1.2" in rig.engine.starts
        assert await rig.told("replica.note") == ["env: PORT is set by hale"]
        await rig.deploy(number=2, replicas=3, env=[{"name": "PORT", "value": "2"}])
        await asyncio.sleep(60)
        assert await rig.told("replica.note") == ["env: PORT is set by hale"] * 2


async def test_a_replica_that_ended_gets_no_request_though_the_table_is_applied_before_its_turn() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=2)
        await asyncio.sleep(5)
        rig.store.writing = 30.0
        rig.controller.journal.changed("r1")
        rig.controller.wake("web")
        await asyncio.sleep(1)  # a turn waits for the store
        rig.engine.exit("r1")
        rig.controller._traffic.changed()
        await asyncio.sleep(1)
        assert rig.balancer.ready("web") == ["r2.1"]


async def test_an_end_that_came_while_the_engine_answered_is_newer_than_its_answer() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=2)
        await asyncio.sleep(5)
        rig.engine.looking = 10.0
        rig.controller.wake("web")
        await asyncio.sleep(1)
        rig.engine.exit("r1")  # what the engine is about to say is of a second ago
        for _ in range(9):
            await asyncio.sleep(1)
            rig.controller._traffic.changed()
            await asyncio.sleep(0)
            assert rig.balancer.ready("web") == ["r2.1"]
        await asyncio.sleep(60)
        assert rig.balancer.ready("web") == ["r1.2", "r2.1"]


async def test_a_place_that_ended_once_is_not_held_against_it_when_the_engine_says_it_runs() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(5)
        rig.controller._exited("r1")  # a false alarm
        assert rig.balancer.ready("web") == []
        await asyncio.sleep(5)
        rig.controller._traffic.changed()
        await asyncio.sleep(1)
        assert (rig.phases(), rig.balancer.ready("web")) == ([Phase.READY], ["r1.1"])


async def test_a_start_that_came_back_while_the_engine_answered_is_not_taken_for_lost() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.starting, rig.engine.looking = 3.0, 2.0
        await rig.deploy()
        for _ in range(20):
            await asyncio.sleep(0.5)
            rig.controller.wake("web")
        await asyncio.sleep(60)
        assert rig.engine.starts == ["r1.1"]
        assert await rig.told("replica.exited") == []


async def test_marks_that_are_not_written_yet_are_not_read_back() -> None:
    rig = Rig()
    async with rig.hale():
        rig.store.failure = "cannot write: disk full"
        await rig.deploy()
        await asyncio.sleep(5)
        rig.controller.wake("web")
        await asyncio.sleep(5)
        rig.store.failure = ""
        await asyncio.sleep(5)
        assert len(await rig.told("revision.healthy")) == 1


# --- mistakes and troubles ------------------------------------------------------------------

CALLS = ("deployment", "revisions", "replicas", "put_replicas", "put_revision", "append", "delete_replica")


async def test_a_store_that_raises_in_every_call_stops_no_health() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=3)
        await asyncio.sleep(5)
        rig.store.mistakes = set(CALLS)
        rig.controller.wake("web")
        rig.engine.exit("r1")
        rig.failing = {("r2", ProbeKind.LIVENESS), ("r3", ProbeKind.READINESS)}
        await asyncio.sleep(39)
        assert rig.balancer.ready("web") == ["r1.2", "r2.2"]
        rig.store.mistakes = set()
        rig.failing = set()
        await asyncio.sleep(20)
        assert rig.balancer.ready("web") == ["r1.2", "r2.2", "r3.1"]
        assert len(await rig.told("replica.exited")) == 2
        assert len(await rig.told("deployment.trouble")) == 1


async def test_a_deployment_that_can_not_be_read_at_the_start_keeps_its_replicas_and_no_other_waits() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy("web", replicas=2)
        await rig.deploy("api")
        await asyncio.sleep(5)
    before = await rig.running()
    document = rig.store._revisions["web-1"]
    rig.store._revisions["web-1"] = replace(document, document="{")
    async with rig.hale():
        await asyncio.sleep(60)
        assert await rig.running() == before
        assert (rig.phases("api"), rig.phases("web")) == ([Phase.READY], [])
        assert len(await rig.told("deployment.trouble")) == 1
        rig.store._revisions["web-1"] = document
        await asyncio.sleep(5)
        assert rig.phases("web") == [Phase.READY, Phase.READY]
        assert await rig.running() == before
        assert await rig.told("replica.exited") == []


async def test_two_troubles_at_once_are_told_once_each_and_again_after_they_were_over() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(5)
        for _ in range(2):
            rig.store.mistakes, rig.engine.failure = {"deployment"}, "cannot reach the engine"
            rig.controller.wake("web")
            await asyncio.sleep(60)
            rig.store.mistakes, rig.engine.failure = set(), ""
            await asyncio.sleep(5)
        trouble = await rig.told("deployment.trouble")
        assert (
            trouble
            == [
                "cannot look after it: RuntimeError('a mistake in deployment')",
                "cannot reach the engine",
            ]
            * 2
        )


async def test_a_deployment_that_was_just_read_when_hale_goes_down_is_not_begun() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.looking = 1.0
        await rig.deploy()
        await asyncio.sleep(0.5)
        async with asyncio.timeout(60):
            await rig.controller.down()
        await asyncio.sleep(60)
        assert rig.engine.starts == []


async def test_down_ends_everything_though_the_store_can_not_be_read() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=2)
        await asyncio.sleep(5)
        rig.store.mistakes = {"deployment", "revisions"}
        async with asyncio.timeout(600):
            await rig.controller.down()
        assert await rig.running() == []


async def test_down_ends_what_belongs_to_nobody_too() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(5)
    await rig.store.delete_deployment("web")
    rig.engine.stubborn.add("r1")
    async with rig.hale():
        assert await rig.running() == ["r1.1"]
        await rig.controller.down()
        assert await rig.running() == []


async def test_a_deployment_applied_while_hale_goes_down_is_not_begun() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(5)
        rig.engine.stubborn.add("r1")
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.controller.down())
            await asyncio.sleep(1)
            await rig.deploy("api")
            await rig.deploy("web", replicas=3, number=2)
        assert rig.engine.starts == ["r1.1"]


# --- the end of hale ------------------------------------------------------------------------


async def test_what_happened_last_is_written_when_hale_ends() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(5)
        rig.failing = {("r1", ProbeKind.LIVENESS)}
        await asyncio.sleep(5.01)
        assert await rig.told("check.failed") == []
    assert len(await rig.told("check.failed")) == 1
    [(_, health)] = await rig.store.replicas()
    assert health[ProbeKind.LIVENESS].streak == 1


async def busy(rig: Rig) -> None:
    """Starts, an end, a rollout, a stop: each in the middle of something."""
    await rig.deploy(replicas=2)
    await asyncio.sleep(0.3)
    if "r1" in rig.engine._held:
        rig.engine.exit("r1")
    await rig.deploy(replicas=2, number=2, env=[{"name": "A", "value": "b"}])
    await asyncio.sleep(0.3)
    await rig.deploy(replicas=1, number=3, env=[{"name": "A", "value": "b"}])


@pytest.mark.parametrize("steps", range(0, 150, 3))
async def test_hale_can_be_ended_at_any_await_and_the_next_one_goes_on(steps: int) -> None:
    rig = Rig()
    rig.engine.starting, rig.engine.looking, rig.store.writing = 0.05, 0.01, 0.02
    async with asyncio.TaskGroup() as group:
        task = rig.begin_hale(group, lambda: None)
        story = group.create_task(busy(rig))
        for _ in range(steps):
            # Zero and a hundredth in turn: now between callbacks, now between timers.
            await asyncio.sleep(0)
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await story
    async with rig.hale():
        await asyncio.sleep(60)
        assert rig.phases() == [Phase.READY]
        [replica] = [each for each in rig.replicas().values() if each.phase is Phase.READY]
        assert await rig.running() == [f"{replica.id}.{replica.attempt}"]
        assert rig.balancer.ready("web") == await rig.running()
        # What one hale began, the next one takes over: the same attempt is not another process.
        launched = Counter((each.replica_id, each.attempt) for each in rig.engine.launches)
        assert set(launched.values()) == {1}


# --- over a long time -----------------------------------------------------------------------


async def test_half_a_day_without_news_costs_no_turns() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy("web", replicas=3)
        await rig.deploy("api", replicas=2)
        await rig.deploy("never", replicas=1, healthChecks={"readiness": {"path": "/"}})
        rig.failing = {("r6", ProbeKind.READINESS)}
        await asyncio.sleep(DAY / 4)
        looks = rig.engine.looks
        await asyncio.sleep(DAY / 4)
        assert rig.engine.looks == looks


async def test_a_month_of_restarts_leaves_nothing_behind() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=2)
        await asyncio.sleep(5)
        for number in range(40):
            rig.engine.exit("r1")
            rig.failing = {("r2", ProbeKind.LIVENESS)} if number % 2 else set()
            await asyncio.sleep(3700)
        rig.failing = set()
        await asyncio.sleep(3600)
        world = rig.controller.world
        assert [len(kept) for kept in (world.instances, world.owners)] == [2, 2]
        assert [len(kept) for kept in (world.refused, world.drained, world.ended, world.troubles)] == [0] * 4


async def test_a_month_of_revisions_keeps_the_last_replicas_and_what_they_are_made_of() -> None:
    rig = Rig()
    async with rig.hale():
        for number in range(1, 60):
            await rig.deploy(number=number, env=[{"name": "N", "value": str(number)}])
            await asyncio.sleep(60)
        managed = rig.controller.world.managed["web"]
        assert len(managed.replicas) == len(rig.controller.prober._watched) == 11
        assert len(managed.templates) <= 12
        assert len(await rig.engine.instances()) == 11
        assert rig.controller._launched == {}


async def test_a_deleted_deployment_leaves_nothing_behind() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(replicas=3)
        await asyncio.sleep(5)
        deployment = await rig.store.deployment("web")
        assert deployment is not None
        await rig.store.put_deployment(replace(deployment, deleted_at=1.0))
        rig.controller.wake("web")
        await asyncio.sleep(60)
        world, controller = rig.controller.world, rig.controller
        assert [len(kept) for kept in (world.managed, world.instances, world.owners)] == [0, 0, 0]
        assert (controller._launched, controller.prober._watched, controller._turns._troubles) == ({}, {}, {})
        assert (await rig.store.replicas(finished=True), await rig.store.events()) == ([], [])


# --- over a restart of hale -----------------------------------------------------------------


async def test_a_row_of_failures_that_ended_long_ago_is_not_gone_on_with_after_a_restart() -> None:
    rig = Rig()
    failing = {("r1", ProbeKind.LIVENESS)}
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(5)
        rig.failing = failing
        await asyncio.sleep(20)
        assert rig.controller.prober.health("r1", 1)[ProbeKind.LIVENESS].streak == 2
        rig.failing = set()
        await asyncio.sleep(3600)
    async with rig.hale():
        rig.failing = failing
        await asyncio.sleep(10)
        rig.failing = set()
        await asyncio.sleep(60)
        assert await rig.running() == ["r1.1"]


async def test_a_replica_whose_template_another_hale_wrote_is_checked_before_it_gets_traffic() -> None:
    rig = Rig()
    rig.failing = {(f"r{number}", ProbeKind.READINESS) for number in (1, 2, 3)}
    async with rig.hale():
        await rig.deploy()
        await asyncio.sleep(30)
    ((replica, health),) = await rig.store.replicas()
    await rig.store.put_replicas([(replace(replica, template="another-digest.0"), health)])
    async with rig.hale():
        await asyncio.sleep(30)
        assert not rig.balancer.ready("web")
        rig.failing = set()
        await asyncio.sleep(30)
        assert rig.balancer.ready("web")


# --- what revisions need --------------------------------------------------------------------

NAME, PINNED = "reg.test/web:2", "reg.test/web@sha256:a"


async def test_what_was_pulled_is_in_the_store_before_the_first_replica_is_started() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.registry[NAME] = PINNED
        rig.store.writing = 30.0
        await rig.deploy(image=NAME)
        await asyncio.sleep(20)
        [revision] = await rig.store.revisions("web")
        assert (revision.image, revision.prepared_at) == (PINNED, 1_000_000.0)
        assert rig.engine.starts == []
        await asyncio.sleep(60)
        assert [each.template.pinned for each in rig.engine.launches] == [PINNED]


async def test_a_hale_that_is_killed_between_the_pull_and_the_write_pulls_again_and_starts_once() -> None:
    rig = Rig()
    rig.store.failure = "cannot write: disk full"
    async with asyncio.TaskGroup() as group:
        task = await rig.start(group)
        rig.engine.registry[NAME] = PINNED
        rig.engine.looking = 10.0  # the turn that would write it down takes a while
        await rig.deploy(image=NAME)
        await asyncio.sleep(5)
        assert (rig.engine.pulls, rig.engine.starts) == ([NAME], [])
        task.cancel()
    rig.engine.looking, rig.store.failure = 0.0, ""
    async with rig.hale():
        await asyncio.sleep(5)
        assert (rig.engine.pulls, rig.engine.starts) == ([NAME, NAME], ["r1.1"])
        assert rig.phases() == [Phase.READY]


async def test_a_revision_of_an_older_hale_keeps_its_replicas() -> None:
    """With `--engine process` its image is left aside: a name stands for itself."""
    rig = Rig()
    async with rig.hale():
        await rig.deploy(image="left-aside:1")
        await asyncio.sleep(5)
    [revision] = await rig.store.revisions("web")
    rig.store._revisions["web-1"] = replace(revision, prepared_at=None)
    async with rig.hale():
        await asyncio.sleep(60)
        assert (rig.engine.starts, rig.balancer.ready("web")) == (["r1.1"], ["r1.1"])
        [revision] = await rig.store.revisions("web")
        assert (revision.image, revision.prepared_at) == (None, 1_000_005.0)


async def test_followers_are_not_told_how_far_a_pull_is() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.pull_time = 600.0
        await rig.deploy(image=NAME)
        await asyncio.sleep(500)
        assert [event.type for event in await rig.store.events()] == ["image.pulling"]
        rig.controller.preparer.cancel("web")


async def test_down_does_not_wait_for_an_image() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.pull_time = 3000.0
        await rig.deploy("web", image=NAME)
        await rig.deploy("api", image=NAME, hale={"pull": "always"})
        await asyncio.sleep(5)
        async with asyncio.timeout(5):
            await rig.controller.down()
        assert rig.controller.preparer.preparation("web") is None


async def test_down_does_not_wait_for_the_image_of_a_start() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.registry[NAME] = PINNED
        await rig.deploy(image=NAME)
        await asyncio.sleep(5)
        rig.engine.images.clear()
        rig.engine.pull_time = 3000.0
        rig.engine.exit("r1")
        await asyncio.sleep(5)
        assert rig.phases() == [Phase.PENDING]
        async with asyncio.timeout(5):
            await rig.controller.down()
        assert await rig.running() == []


async def test_a_deleted_deployment_leaves_no_preparation_and_no_volume_behind() -> None:
    rig = Rig()
    async with rig.hale():
        data = [{"name": "data", "type": "s3", "url": "s3://models/1/"}]
        await rig.deploy(integrations=data)
        await asyncio.sleep(5)
        rig.engine.pull_time = 3000.0
        await rig.deploy(number=2, integrations=data, image=NAME)
        await asyncio.sleep(5)
        assert rig.controller.preparer.preparation("web") is not None
        deployment = await rig.store.deployment("web")
        assert deployment is not None
        await rig.store.put_deployment(replace(deployment, deleted_at=1.0))
        rig.controller.wake("web")
        await asyncio.sleep(5)
        assert rig.volumes.filled == set()
        assert rig.controller.world.managed == {}
        preparer, shelf = rig.controller.preparer, rig.controller._shelf
        assert [len(kept) for kept in (preparer._jobs, shelf._kept, shelf._locks, shelf._removing)] == [0] * 4


async def test_what_was_prepared_and_could_not_be_written_is_not_prepared_again() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.registry[NAME] = PINNED
        rig.store.failure = "cannot write: disk full"
        await rig.deploy(image=NAME)
        await asyncio.sleep(5)
        rig.controller.wake("web")  # the Store says that it is not prepared
        await asyncio.sleep(5)
        assert (rig.engine.pulls, rig.engine.starts, rig.phases()) == ([NAME], ["r1.1"], [Phase.READY])


async def test_what_comes_of_a_revision_that_is_not_the_newest_any_more_concerns_nobody() -> None:
    rig = Rig()
    async with rig.hale():
        rig.engine.pull_time = 600.0
        await rig.deploy(number=2, image=NAME)
        await asyncio.sleep(5)
        rig.controller.prepared("web", 1, PINNED)
        rig.controller.prepared("gone", 1, PINNED)
        await asyncio.sleep(5)
        assert (rig.engine.starts, rig.phases()) == ([], [])
        assert rig.controller.preparer.preparation("web") is not None
        rig.controller.preparer.cancel("web")


async def test_what_replicas_wrote_stays_until_the_deployment_goes() -> None:
    rig = Rig()
    async with rig.hale():
        await rig.deploy(integrations=[{"name": "cache", "type": "volume"}])
        await asyncio.sleep(5)
        await rig.deploy(number=2, integrations=[{"name": "data", "type": "s3", "url": "s3://models/1/"}])
        await asyncio.sleep(5)
        await rig.deploy(number=3)
        await asyncio.sleep(60)
        assert rig.volumes.filled == {("web", "cache")}
    async with rig.hale():
        await asyncio.sleep(60)
        assert rig.volumes.filled == {("web", "cache")}
        deployment = await rig.store.deployment("web")
        assert deployment is not None
        await rig.store.put_deployment(replace(deployment, deleted_at=1.0))
        rig.controller.wake("web")
        await asyncio.sleep(60)
        assert rig.volumes.filled == set()
