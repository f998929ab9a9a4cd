"""Revisions with images, for real: a private registry, Podman, checks; all but the gateway and the disk."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from kit import images
from kit.podman import Podman
from kit.registry import Registry

from hale.clock import Clock
from hale.core import image as core_image
from hale.core.deployment import Deployment, Revision
from hale.core.replica import Phase
from hale.local.checks import Checker
from hale.local.engines.container import ContainerEngine
from hale.local.platform import LocalPlatform
from hale.memory.balancer import MemoryBalancer
from hale.memory.store import MemoryStore
from hale.memory.volumes import MemoryVolumes
from hale.settings import Address

pytestmark = [pytest.mark.real_time, pytest.mark.xdist_group("podman")]

WEB = Deployment("d1", "p", "web", "web", 1.0)


class Hale:
    """A platform at work with one deployment."""

    def __init__(self, platform: LocalPlatform, store: MemoryStore, registry: Registry, clock: Clock) -> None:
        self.platform = platform
        self.store = store
        self.registry = registry
        self.clock = clock

    async def connect(self, password: str) -> None:
        """The connection `ours` of specs."""
        registry = self.registry
        await self.store.put_registry(
            core_image.Registry("c1", "ours", registry.url, "", registry.username, password, 1.0, 1.0)
        )

    async def apply(self, name: str, *, carried: str | None = None, **hale: Any) -> None:
        spec = {
            "apiVersion": "v1",
            "name": "web",
            "image": self.registry.name(name),
            "containerRegistry": "ours",
            "resources": {"machineType": "C4", "replicas": 1, "ports": [8000]},
            "healthChecks": {"readiness": {"path": "/readiness"}},
            "hale": {"gracePeriodSeconds": 1, "backoff": {"initialSeconds": 1}, **hale},
        }
        number = len(await self.store.revisions(WEB.id)) + 1
        revision = Revision(f"s{number}", WEB.id, number, json.dumps(spec), self.clock.now(), image=carried)
        await self.store.apply(WEB, revision)
        self.platform.wake(WEB.id)

    async def newest(self) -> Revision:
        [newest] = await self.store.revisions(WEB.id, limit=1)
        return newest

    async def until(self, condition: Callable[[Revision], bool], what: str) -> Revision:
        try:
            async with asyncio.timeout(90):
                while not condition(newest := await self.newest()):
                    await asyncio.sleep(0.05)
                return newest
        except TimeoutError:
            raise AssertionError(f"not within 90 s: {what}; {await self.told()}") from None

    async def healthy(self) -> Revision:
        """The newest revision, once all of it is ready and nothing else is left."""
        newest = await self.until(lambda revision: revision.healthy_at is not None, "it is healthy")
        for _ in range(600):
            observed = await self.platform.observe(WEB.id)
            if [each.replica.phase for each in observed] == [Phase.READY]:
                return newest
            await asyncio.sleep(0.05)
        raise AssertionError(f"replicas are left: {await self.told()}")

    async def told(self) -> list[str]:
        return [f"{each.type}: {each.message}" for each in await self.store.events(limit=500)]

    async def types(self) -> list[str]:
        return [each.type for each in await self.store.events(limit=500)]


@pytest.fixture
async def hale(podman: Podman, registry: Registry, tmp_path: Path) -> AsyncIterator[Hale]:
    clock, store = Clock.start(), MemoryStore()
    async with (
        ContainerEngine(tmp_path / "containers", clock, sockets=[podman.socket]) as engine,
        Checker(clock, engine) as checker,
        asyncio.TaskGroup() as group,
    ):
        platform = LocalPlatform(
            store,
            engine,
            MemoryBalancer(),
            checker.begin,
            clock,
            volumes=MemoryVolumes(),
            gateway=Address("127.0.0.1", 80),
            domain="test",
        )
        ready = asyncio.Event()
        running = group.create_task(platform.run(ready.set))
        await ready.wait()
        hale = Hale(platform, store, registry, clock)
        await hale.connect(registry.password)
        yield hale
        await platform.down()
        running.cancel()


async def test_what_is_pulled_with_the_password_is_what_runs(hale: Hale, podman: Podman) -> None:
    digest = hale.registry.push(images.web("of this test"), "web:1")
    await hale.apply("web:1")
    newest = await hale.healthy()
    assert newest.image == f"{hale.registry.name('web')}@{digest}"
    [container] = podman.containers("status=running")
    assert podman.inspect(container)["ImageDigest"] == digest
    [pulled] = [text for text in await hale.told() if text.startswith("image.pulled")]
    assert pulled.startswith(f"image.pulled: {hale.registry.name('web:1')} is ")
    assert hale.registry.password not in str(await hale.told())


async def test_a_wrong_password_is_the_error_at_once_and_the_right_one_heals_it(hale: Hale) -> None:
    hale.registry.push(images.web("of this test"), "web:1")
    await hale.connect("wrong")
    await hale.apply("web:1")
    failed = await hale.until(lambda revision: revision.error is not None, "it fails")
    assert "image.denied" in await hale.types()
    assert failed.applied_at is None
    assert "wrong" not in str(await hale.told())
    await hale.connect(hale.registry.password)
    newest = await hale.healthy()
    assert newest.error is None


async def test_a_tag_that_moved_comes_with_the_next_apply_and_a_rollback_goes_back_to_its_digest(
    hale: Hale, podman: Podman
) -> None:
    hale.registry.push(images.web("one"), "web:latest")
    await hale.apply("web:latest")
    first = await hale.healthy()
    hale.registry.push(images.web("two"), "web:latest")
    await hale.apply("web:latest")
    second = await hale.healthy()
    assert first.image != second.image
    podman.run("rmi", "--force", images.web("one").id)
    await hale.apply("web:latest", carried=first.image)
    third = await hale.healthy()
    assert third.image == first.image
    [container] = podman.containers("status=running")
    assert podman.inspect(container)["Config"]["Labels"]["version"] == "one"


async def test_an_image_that_was_removed_is_pulled_again_for_a_restart(hale: Hale, podman: Podman) -> None:
    hale.registry.push(images.web("of this test"), "web:1")
    await hale.apply("web:1")
    await hale.healthy()
    podman.run("rmi", "--force", images.web("of this test").id)  # with its container
    for _ in range(1200):
        observed = await hale.platform.observe(WEB.id)
        if [(each.replica.phase, each.replica.restarts > 0) for each in observed] == [(Phase.READY, True)]:
            break
        await asyncio.sleep(0.05)
    assert [each.replica.phase for each in observed] == [Phase.READY]
    assert "image.gone" in await hale.types()
    assert (await hale.newest()).number == 1


async def test_a_registry_that_does_not_answer_holds_nobody_up_who_has_the_image(hale: Hale) -> None:
    hale.registry.push(images.web("of this test"), "web:1")
    await hale.apply("web:1")
    first = await hale.healthy()
    hale.registry.stop()
    await hale.apply("web:1", drainSeconds=1)
    second = await hale.healthy()
    assert (second.number, second.image) == (2, first.image)
    assert "image.stale" in await hale.types()
