"""The balancers that there are, held to the suite."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conformance.balancer import BalancerSuite
from local.balancers.rig import Rig, rig

from hale.memory.balancer import MemoryBalancer
from hale.ports import Server


@dataclass(slots=True)
class HeldNumber:
    server_id: str
    balancer: MemoryBalancer

    async def finish(self) -> int:
        self.balancer.finish(self.server_id)
        return 200


class MemoryTraffic:
    def __init__(self) -> None:
        self.balancer = MemoryBalancer()

    async def server(self, server_id: str, *, ready: bool = True) -> Server:
        return Server(server_id, "127.0.0.1", 1, ready)

    async def get(self, host: str, *, password: str | None = None) -> tuple[int, str]:
        status, server_id = self.balancer.begin(host, password=password)
        if server_id:
            self.balancer.finish(server_id)
        return status, server_id

    async def begin(self, host: str) -> HeldNumber:
        _, server_id = self.balancer.begin(host)
        return HeldNumber(server_id, self.balancer)


class TestMemoryBalancer(BalancerSuite):
    @pytest.fixture
    async def traffic(self) -> MemoryTraffic:
        return MemoryTraffic()


@pytest.mark.real_time
class TestHaproxyBalancer(BalancerSuite):
    @pytest.fixture
    async def traffic(self, tmp_path: Path) -> AsyncIterator[Rig]:
        async with rig(tmp_path / "gateway") as built:
            yield built
