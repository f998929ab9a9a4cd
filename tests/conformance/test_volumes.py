"""Every Volumes passes the one suite."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from s3_server import S3Server

from hale.core.volume import Source
from hale.errors import PreparationError
from hale.local.volumes.folder import FolderVolumes
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


class FolderRig:
    """Volumes from a real S3 server, where each version of an integration has a prefix."""

    def __init__(self, folder: Path, volumes: FolderVolumes, server: S3Server) -> None:
        self._folder = folder
        self.volumes = volumes
        self._server = server
        for version in (1, 2):
            server.put("models", f"{version}/a.txt", b"a")
            server.put("models", f"{version}/deep/b.txt", str(version).encode())

    def source(self, name: str = "models", version: int = 1) -> Source:
        return Source(
            name,
            "s3",
            f"{name}-{version}",
            f"/opt/{name}",
            f"s3://{name}/{version}/",
            self._server.url,
            access_key_id="demo",
            secret_access_key="demo-secret",
        )

    def missing(self) -> Source:
        return self.source("missing")

    def whole(self, deployment_id: str, source: Source) -> bool:
        folder = Path(self.volumes.folder(deployment_id, source))
        content = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.txt")}
        return content == {"a.txt": b"a", "deep/b.txt": source.key[-1:].encode()}

    def anything(self, deployment_id: str) -> bool:
        return (self._folder / deployment_id).exists()


@pytest.mark.real_time
class TestFolderVolumes(VolumesSuite):
    @pytest.fixture(autouse=True)
    def _given(self, tmp_path: Path) -> None:
        self._folder = tmp_path / "volumes"

    def opened(self) -> AbstractAsyncContextManager[Rig]:
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Rig]:
        buckets = self._folder.with_name("s3") / "buckets"
        with S3Server(buckets) as server:
            async with FolderVolumes(self._folder) as volumes:
                yield FolderRig(self._folder, volumes, server)
