"""What LocalPlatform adds to its parts: names, views of replicas, and a bound on the past."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.core.event import Event
from hale.core.probe import Probe, ProbeResult
from hale.core.replica import Phase
from hale.errors import PreparationError, StoreError
from hale.local.checks import Target
from hale.local.platform import LocalPlatform
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore
from hale.memory.volumes import MemoryVolumes
from hale.settings import Address

WEB = Deployment("11111111-2222", "p", "Web", "web", 1.0)


class Store(MemoryStore):
    """Can't trim with a reason in `failure`."""

    failure = ""

    async def trim_events(self, keep: int) -> None:
        if self.failure:
            raise StoreError(self.failure)
        await super().trim_events(keep)


@dataclass
class Given:
    store: Store
    engine: MemoryEngine
    balancer: MemoryBalancer
    platform: LocalPlatform

    async def apply(self, number: int = 1, **others: Any) -> None:
        spec = {
            "apiVersion": "v1",
            "name": "Web",
            "command": ["serve"],
            "resources": {"machineType": "C4", "replicas": 1, "ports": [80, 81]},
            **others,
        }
        await self.store.apply(WEB, Revision(f"s{number}", WEB.id, number, json.dumps(spec), 1.0))
        self.platform.wake(WEB.id)
        await asyncio.sleep(5)


@asynccontextmanager
async def at_work(port: int = 8080, given: Given | None = None) -> AsyncIterator[Given]:
    """A platform, on what is there already or on nothing."""
    clock = Clock.start()
    given = given or Given(Store(), MemoryEngine(clock), MemoryBalancer(), None)  # type: ignore[arg-type]

    def begin(
        probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        result = ProbeResult(clock.now(), ok=True, status=200, eager=eager)
        return asyncio.get_running_loop().call_later(0.004, report, result).cancel

    given.platform = LocalPlatform(
        given.store,
        given.engine,
        given.balancer,
        begin,
        clock,
        volumes=MemoryVolumes(),
        gateway=Address("127.0.0.1", port),
        domain="example.test",
    )
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        running = group.create_task(given.platform.run(ready.set))
        await ready.wait()
        yield given
        running.cancel()


@pytest.mark.parametrize(("port", "endpoint"), [(80, "web.example.test"), (8080, "web.example.test:8080")])
async def test_the_endpoint_names_the_port_unless_it_is_80(port: int, endpoint: str) -> None:
    async with at_work(port) as given:
        assert given.platform.endpoint(WEB) == endpoint


async def test_requests_come_by_the_slug_and_by_the_id_as_gradient_has_it() -> None:
    async with at_work() as given:
        await given.apply()
        assert given.balancer.begin("web.example.test")[0] == 200
        assert given.balancer.begin("d111111112222.example.test")[0] == 200
        assert given.balancer.begin("web.elsewhere.test")[0] == 404


async def test_the_name_of_a_deleted_deployment_is_free_while_it_finishes_its_requests() -> None:
    async with at_work() as given:
        await given.apply()
        given.balancer.begin("web.example.test")
        await given.store.put_deployment(replace(WEB, deleted_at=9.0))
        given.platform.wake(WEB.id)
        await asyncio.sleep(5)
        assert given.balancer.begin("web.example.test")[0] == 404
        assert given.balancer.begin("d111111112222.example.test")[0] == 503


async def test_a_password_is_asked_for() -> None:
    async with at_work() as given:
        await given.apply(basicAuthKey="abc")
        assert given.balancer.begin("web.example.test")[0] == 401
        assert given.balancer.begin("web.example.test", password="abc")[0] == 200


async def test_what_serves_on_is_protected_as_before_until_the_newer_revision_is_prepared() -> None:
    async with at_work() as given:
        await given.apply(basicAuthKey="old")
        given.engine.registry["web:2"] = PreparationError("cannot", event="image.denied", fatal=True)
        await given.apply(number=2, image="web:2")  # public from then on
        assert given.balancer.begin("web.example.test")[0] == 401
        assert given.balancer.begin("web.example.test", password="old")[0] == 200
    async with at_work(given=given):
        assert given.balancer.begin("web.example.test")[0] == 401
        assert given.balancer.begin("web.example.test", password="old")[0] == 200
        given.engine.registry["web:2"] = "web@sha256:2"
        given.platform.wake(WEB.id)
        await asyncio.sleep(5)
        assert given.balancer.begin("web.example.test")[0] == 200


async def test_a_replica_in_a_container_has_its_name_while_it_runs() -> None:
    async with at_work() as given:
        await given.apply()
        [runs] = await given.platform.observe(WEB.id)
        assert runs.container is None
        instances = given.platform._controller.world.instances
        instances[runs.replica.id] = replace(instances[runs.replica.id], container="hale-web-1")
        assert (await given.platform.observe(WEB.id))[0].container == "hale-web-1"
        given.engine.refusals["serve"] = "no such file"
        given.engine.exit(runs.replica.id)
        await asyncio.sleep(1)
        assert (await given.platform.observe(WEB.id))[0].container is None


async def test_a_replica_that_runs_has_an_address_and_a_pid_one_that_does_not_has_none() -> None:
    async with at_work() as given:
        await given.apply()
        [runs] = await given.platform.observe(WEB.id)
        assert (runs.address, runs.pid) == ("127.0.0.1:20000", 1)
        given.engine.refusals["serve"] = "no such file"
        given.engine.exit(runs.replica.id)
        await asyncio.sleep(1)
        [waits] = await given.platform.observe(WEB.id)
        assert (waits.replica.phase, waits.address, waits.pid) == (Phase.BACKOFF, None, None)
        assert waits.next is not None
        assert (waits.next.action, waits.next.reason) == ("restart", "restart 2")


async def test_replicas_that_are_over_are_not_observed() -> None:
    async with at_work() as given:
        await given.apply()
        await given.apply(enabled=False)
        assert await given.platform.observe(WEB.id) == []
        assert len(await given.store.replicas(finished=True)) == 1


async def test_the_newest_5000_events_are_kept_and_trouble_with_that_is_tried_again() -> None:
    async with at_work() as given:
        given.store.failure = "cannot write: disk full"
        await given.store.append([Event(1.0, "revision.note", str(n)) for n in range(5100)])
        await asyncio.sleep(3 * 3600)
        assert len(await given.store.events(limit=10_000)) == 5100
        given.store.failure = ""
        await asyncio.sleep(2 * 3600)
        assert [each.message for each in await given.store.events(limit=1)] == ["100"]


async def test_down_ends_the_gateway_after_the_last_replica() -> None:
    async with at_work() as given:
        await given.apply()
        [runs] = await given.platform.observe(WEB.id)
        given.engine.stubborn.add(runs.replica.id)
        async with asyncio.TaskGroup() as group:
            down = group.create_task(given.platform.down())
            await asyncio.sleep(10)
            assert (given.balancer.stopped, down.done()) == (False, False)
        assert given.balancer.stopped
        assert [each for each in await given.engine.instances() if each.running] == []
