"""Every Engine passes the one suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hale.clock import Clock
from hale.local.engines.process import ProcessEngine
from hale.memory.engine import MemoryEngine
from hale.ports import Engine
from tests.conformance.engine import EngineSuite


class TestMemoryEngine(EngineSuite):
    @pytest.fixture
    async def engine(self) -> Engine:
        return MemoryEngine(Clock.start())


@pytest.mark.real_time
class TestProcessEngine(EngineSuite):
    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine]:
        async with ProcessEngine(tmp_path / "replicas", Clock.start(), ignore_images=False) as engine:
            try:
                yield engine
            finally:
                for instance in await engine.instances():
                    await engine.stop(instance.replica_id, grace=0)
                await engine.shutdown()
