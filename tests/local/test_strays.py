"""What is being started when nobody wants it any more is ended, not lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.core.probe import Probe, ProbeResult
from hale.local.checks import Target
from hale.local.controller import Controller
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore
from hale.memory.volumes import MemoryVolumes
from hale.ports import Instance, Launch

SPEC = {
    "apiVersion": "v1",
    "name": "web",
    "command": ["serve"],
    "resources": {"machineType": "C4", "replicas": 12, "ports": [80]},
}


class SlowEngine(MemoryEngine):
    """Takes a second for each start."""

    async def start(self, launch: Launch) -> Instance:
        await asyncio.sleep(1)
        return await super().start(launch)


@asynccontextmanager
async def starting() -> AsyncIterator[tuple[Controller, MemoryStore, SlowEngine, Deployment]]:
    """A controller half a second into the first starts of a deployment."""
    clock, store = Clock.start(), MemoryStore()
    engine = SlowEngine(clock)

    def begin(
        probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        result = ProbeResult(clock.now(), ok=True, eager=eager)
        return asyncio.get_running_loop().call_soon(report, result).cancel

    controller = Controller(
        store,
        engine,
        MemoryBalancer(),
        begin,
        clock,
        volumes=MemoryVolumes(),
        machines={},
        hosts=lambda d: (d.slug,),
        news=lambda: None,
    )
    deployment = Deployment("d1", "p", "web", "web", clock.now())
    await store.apply(deployment, Revision("s1", "d1", 1, json.dumps(SPEC), clock.now()))
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        running = group.create_task(controller.run(ready.set))
        await ready.wait()
        await asyncio.sleep(0.5)
        yield controller, store, engine, deployment
        running.cancel()


async def running(engine: MemoryEngine) -> list[str]:
    return [instance.replica_id for instance in await engine.instances() if instance.running]


async def test_a_deployment_deleted_while_it_starts_goes_when_what_was_begun_has_ended() -> None:
    async with starting() as (controller, store, engine, deployment):
        await store.put_deployment(replace(deployment, deleted_at=1.0))
        controller.wake("d1")
        await asyncio.sleep(60)
        assert (await running(engine), await store.deployments(), controller.world.managed) == ([], [], {})
        assert len(engine.launches) == SPEC["resources"]["replicas"]  # type: ignore[index]


async def test_down_while_replicas_start_leaves_none() -> None:
    async with starting() as (controller, _, engine, _):
        async with asyncio.timeout(60):
            await controller.down()
        assert await running(engine) == []


@pytest.mark.parametrize("again", [1.0, 30.0], ids=["at once", "later"])
async def test_replicas_scaled_away_while_they_start_are_ended(again: float) -> None:
    async with starting() as (controller, store, engine, deployment):
        none = {**SPEC, "resources": {**SPEC["resources"], "replicas": 0}}  # type: ignore[dict-item]
        await store.apply(deployment, Revision("s2", "d1", 2, json.dumps(none), again))
        controller.wake("d1")
        await asyncio.sleep(60)
        assert await running(engine) == []
