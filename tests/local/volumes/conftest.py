"""Volumes in a folder of the test's own, a real S3 server, and how far a filling has come."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kit.processes import processes_of
from s3_server import S3Server

from hale.core.image import Progress
from hale.core.volume import Source
from hale.errors import PreparationError
from hale.local.volumes.folder import FolderVolumes

KEY, SECRET = "some-key", "some-secret-value"


def source(kind: str = "volume", name: str = "falcon", **fields: object) -> Source:
    made = Source(name, kind, key=f"{kind} {name}", target=f"/opt/integrations/{name}")
    return replace(made, **fields)  # type: ignore[arg-type]


def untold(progress: Progress) -> None:
    """For fillings whose progress is nobody's concern."""


def tree(folder: str | Path) -> dict[str, bytes]:
    """What is in all files of a folder, by their paths in it."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "volumes"


@pytest.fixture
async def volumes(place: Path) -> AsyncIterator[FolderVolumes]:
    async with FolderVolumes(place) as made:
        await made.keep("nobody", ())  # after what is done at the start
        yield made


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3" / "buckets", key=KEY, secret=SECRET) as server:
        yield server


def bucket(server: S3Server, url: str = "s3://models/falcon", **fields: object) -> Source:
    usual = {"endpoint": server.url, "access_key_id": KEY, "secret_access_key": SECRET}
    return source("s3", url=url, **(usual | fields))


async def why_not(volumes: FolderVolumes, wanted: Source, deployment: str = "d1") -> PreparationError:
    """The error of a filling that can't be done; nothing of a secret is in it, nothing of a process left."""
    with pytest.raises(PreparationError) as raised:
        await volumes.fill(deployment, wanted, untold)
    error = raised.value
    for secret in (wanted.secret_access_key, wanted.access_key_id, "TOKEN"):
        assert not secret or secret not in f"{error.message} {error.hint}"
    assert error.message.startswith(f"cannot fill volume {wanted.name} from ")
    assert not Path(volumes.folder(deployment, wanted)).exists()
    assert processes_of(Path(volumes.folder(deployment, wanted)).parent) == {}
    return error
