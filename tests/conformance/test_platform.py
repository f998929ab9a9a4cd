"""Every Platform passes the one suite."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from hale.clock import Clock
from hale.core.deployment import Template
from hale.core.probe import Probe, ProbeResult
from hale.local.checks import Target
from hale.local.platform import LocalPlatform
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.platform import MemoryPlatform
from hale.memory.store import MemoryStore
from hale.memory.volumes import MemoryVolumes
from hale.settings import Address
from tests.conformance.platform import Given, PlatformSuite, RunningSuite


class TestMemoryPlatform(PlatformSuite):
    def opened(self) -> AbstractAsyncContextManager[Given]:
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Given]:
        store = MemoryStore()
        platform = MemoryPlatform(store)

        def refuse() -> Template:
            platform.refusal = "image: there is no container engine"
            return Template("key")

        yield Given(platform, store, lambda replica_id, text: None, refuse)


class TestLocalPlatform(RunningSuite):
    def opened(self) -> AbstractAsyncContextManager[Given]:
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Given]:
        clock, store = Clock.start(), MemoryStore()
        engine = MemoryEngine(clock)

        def begin(
            probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
        ) -> Callable[[], None]:
            result = ProbeResult(clock.now(), ok=True, latency=0.004, status=200, eager=eager)
            return asyncio.get_running_loop().call_later(0.004, report, result).cancel

        platform = LocalPlatform(
            store,
            engine,
            MemoryBalancer(),
            begin,
            clock,
            volumes=MemoryVolumes(),
            gateway=Address("127.0.0.1", 80),
            domain="test",
        )
        async with asyncio.TaskGroup() as group:
            ready = asyncio.Event()
            running = group.create_task(platform.run(ready.set))
            await ready.wait()
            yield Given(platform, store, engine.write, lambda: Template("key"))
            running.cancel()
