"""Every Volumes passes the one suite."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from hale.core.volume import Source
from hale.errors import PreparationError
from hale.memory.volumes import MemoryVolumes
from tests.conformance.volumes import Rig, VolumesSuite


class MemoryRig:
    def __init__(self) -> None:
        self.volumes = MemoryVolumes()
        self.volumes.fill_time = 1.0
        self.volumes.failures["missing"] = PreparationError(
            "cannot fill volume missing: no such bucket", event="volume.not_found", fatal=True
        )

    def source(self, name: str = "models", version: int = 1) -> Source:
        return Source(name, "s3", f"{name}-{version}", f"/opt/{name}", f"s3://{name}/{version}/")

    def missing(self) -> Source:
        return self.source("missing")

    def whole(self, deployment_id: str, source: Source) -> bool:
        return (deployment_id, source.key) in self.volumes.filled

    def anything(self, deployment_id: str) -> bool:
        return deployment_id in {owner for owner, _ in self.volumes.filled}


class TestMemoryVolumes(VolumesSuite):
    def opened(self) -> AbstractAsyncContextManager[Rig]:
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Rig]:
        yield MemoryRig()
