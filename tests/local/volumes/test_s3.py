"""Volumes from a real S3 server."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from kit.processes import processes_of
from s3_server import S3Server

from hale.core.image import Progress
from hale.local.volumes.folder import FolderVolumes
from hale.local.volumes.s3 import environment
from tests.local.volumes.conftest import SECRET, bucket, source, tree, untold, why_not

pytestmark = pytest.mark.real_time

CONTENT: Mapping[str, bytes] = {
    "config.json": b"{}",
    "weights/part 1.bin": bytes(range(256)) * 4000,
    "weights/ü/part 2.bin": b"two",
}


@pytest.fixture
def stocked(s3: S3Server) -> S3Server:
    for path, content in CONTENT.items():
        s3.put("models", f"falcon/{path}", content)
    s3.put("models", "falcon-7b/other", b"not under the prefix")
    s3.put("models", "top.txt", b"top")
    return s3


# --- what is in a volume ----------------------------------------------------------------------


@pytest.mark.parametrize("url", ["s3://models/falcon", "s3://models/falcon/"])
async def test_a_volume_holds_what_is_under_the_prefix(
    volumes: FolderVolumes, stocked: S3Server, url: str
) -> None:
    wanted = bucket(stocked, url)
    await volumes.fill("d1", wanted, untold)
    assert tree(volumes.folder("d1", wanted)) == CONTENT


async def test_without_a_prefix_it_holds_the_whole_bucket(volumes: FolderVolumes, stocked: S3Server) -> None:
    wanted = bucket(stocked, "s3://models/")
    await volumes.fill("d1", wanted, untold)
    assert set(tree(volumes.folder("d1", wanted))) == {
        *(f"falcon/{path}" for path in CONTENT),
        "falcon-7b/other",
        "top.txt",
    }


async def test_a_prefix_that_is_an_object_gives_that_object(
    volumes: FolderVolumes, stocked: S3Server
) -> None:
    wanted = bucket(stocked, "s3://models/top.txt")
    await volumes.fill("d1", wanted, untold)
    assert tree(volumes.folder("d1", wanted)) == {"top.txt": b"top"}


async def test_an_empty_bucket_is_an_empty_volume(volumes: FolderVolumes, stocked: S3Server) -> None:
    (stocked.folder / "empty").mkdir()
    wanted = bucket(stocked, "s3://empty/")
    await volumes.fill("d1", wanted, untold)
    assert tree(volumes.folder("d1", wanted)) == {}


async def test_it_can_be_read_by_all_and_written_by_nobody(volumes: FolderVolumes, stocked: S3Server) -> None:
    wanted = bucket(stocked)
    await volumes.fill("d1", wanted, untold)
    folder = Path(volumes.folder("d1", wanted))
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()} == {0o555}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o444}


async def test_a_filled_volume_is_not_filled_again(volumes: FolderVolumes, stocked: S3Server) -> None:
    wanted = bucket(stocked)
    await volumes.fill("d1", wanted, untold)
    stocked.stop()
    await volumes.fill("d1", wanted, untold)
    assert tree(volumes.folder("d1", wanted)) == CONTENT


async def test_progress_counts_files_and_bytes(volumes: FolderVolumes, stocked: S3Server) -> None:
    heard: list[Progress] = []
    await volumes.fill("d1", bucket(stocked), heard.append)
    size = sum(map(len, CONTENT.values()))
    assert heard[-1] == Progress(len(CONTENT), len(CONTENT), size, size)


async def test_five_thousand_files_are_no_trouble(volumes: FolderVolumes, stocked: S3Server) -> None:
    for number in range(5000):
        stocked.put("many", f"{number % 50}/{number}", b"x")
    wanted = bucket(stocked, "s3://many/")
    await volumes.fill("d1", wanted, untold)
    assert len(tree(volumes.folder("d1", wanted))) == 5000


# --- what may stand in the way ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        pytest.param({"secret_access_key": "wrong-secret"}, "the secret key is not that", id="wrong secret"),
        pytest.param({"access_key_id": "nobody-we-know"}, "there is no such access key", id="wrong key"),
        pytest.param(
            {"access_key_id": None, "secret_access_key": None}, "not open to everybody", id="no keys"
        ),
    ],
)
async def test_who_may_not_read_is_told_so(
    volumes: FolderVolumes, stocked: S3Server, keys: dict[str, object], why: str
) -> None:
    error = await why_not(volumes, bucket(stocked, **keys))
    assert (error.event, error.fatal) == ("volume.denied", True)
    assert why in error.message
    assert "accessKeyId" in error.hint


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://nowhere/", "there is no such bucket"),
        ("s3://nowhere/x", "there is no such bucket"),
        ("s3://models/nothing", "there is nothing with that prefix"),
    ],
)
async def test_what_is_not_there_is_said_to_be_so(
    volumes: FolderVolumes, stocked: S3Server, url: str, why: str
) -> None:
    error = await why_not(volumes, bucket(stocked, url))
    assert (error.event, error.fatal) == ("volume.not_found", True)
    assert error.message == f"cannot fill volume falcon from {url}: {why}"


async def test_a_server_that_is_down_is_unreachable(volumes: FolderVolumes, stocked: S3Server) -> None:
    stocked.stop()
    error = await why_not(volumes, bucket(stocked))
    assert (error.event, error.fatal) == ("volume.unreachable", False)
    assert "connection refused" in error.message


async def test_a_name_that_does_not_resolve_is_unreachable(volumes: FolderVolumes, stocked: S3Server) -> None:
    error = await why_not(volumes, bucket(stocked, endpoint="http://nowhere.invalid"))
    assert (error.event, error.fatal) == ("volume.unreachable", False)


async def test_https_where_http_is_spoken_is_no_trouble_of_keys(
    volumes: FolderVolumes, stocked: S3Server
) -> None:
    error = await why_not(volumes, bucket(stocked, endpoint=stocked.url.replace("http:", "https:")))
    assert (error.event, error.fatal) == ("volume.failed", False)


async def test_a_full_disk_is_told_and_what_was_written_is_gone(small: Path, stocked: S3Server) -> None:
    stocked.put("models", "falcon/large", bytes(16 << 20))
    async with FolderVolumes(small) as volumes:
        error = await why_not(volumes, bucket(stocked))
        assert (error.event, error.fatal) == ("volume.disk_full", False), error.message
        assert [path for path in small.rglob("*") if path.is_file()] == []


async def test_what_was_fetched_before_the_server_went_is_not_fetched_again(
    volumes: FolderVolumes, stocked: S3Server
) -> None:
    for number in range(40):
        stocked.put("models", f"falcon/more/{number}", os.urandom(4 << 20))
    wanted = bucket(stocked)
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(why_not(volumes, wanted))
        folder = Path(volumes.folder("d1", wanted)).parent
        while not list(folder.glob(".filling-*/volume/more/*[0-9]")):
            await asyncio.sleep(0.001)
        stocked.stop()
        error = await failing
    assert error.event == "volume.unreachable"
    kept = {path.name: path.stat().st_ino for path in folder.glob(".filling-*/volume/more/*[0-9]")}
    assert kept
    # One that was broken off, as it may or may not have been now.
    (half,) = folder.glob(".filling-*/volume/more")
    missing = next(str(number) for number in range(40) if str(number) not in kept)
    (half / f"{missing}.hale-partial").write_text("half")
    stocked.start()
    await volumes.fill("d1", wanted, untold)
    filled = Path(volumes.folder("d1", wanted))
    assert {name: (filled / "more" / name).stat().st_ino for name in kept} == kept
    assert tree(filled) == tree(stocked.folder / "models" / "falcon")
    assert list(folder.iterdir()) == [filled]


# --- ends in the middle -------------------------------------------------------------------------


async def filling(volumes: FolderVolumes, server: S3Server) -> int:
    """Wait until rclone is at work; its pid."""
    async with asyncio.timeout(60):
        while True:
            for pid, command in processes_of(server.folder.parents[1] / "volumes").items():
                if "rclone sync" in command and "guard.py" not in command:
                    return pid
            await asyncio.sleep(0.01)


async def test_a_cancelled_filling_leaves_nothing(volumes: FolderVolumes, stocked: S3Server) -> None:
    stocked.pause()
    wanted = bucket(stocked)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(volumes.fill("d1", wanted, untold))
        await filling(volumes, stocked)
        task.cancel()
    folder = Path(volumes.folder("d1", wanted)).parent
    assert processes_of(folder) == {}
    assert list(folder.iterdir()) == []


async def test_no_secret_is_in_a_command_line_or_a_file(volumes: FolderVolumes, stocked: S3Server) -> None:
    stocked.pause()
    wanted = bucket(stocked)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(volumes.fill("d1", wanted, untold))
        await filling(volumes, stocked)
        folder = Path(volumes.folder("d1", wanted)).parent
        commands = processes_of(folder).values()
        task.cancel()
    assert any("rclone" in command for command in commands)
    assert not any(SECRET in command for command in commands)


# --- what rclone is told ------------------------------------------------------------------------


def test_without_an_endpoint_it_is_amazon(tmp_path: Path) -> None:
    told = environment(source("s3", url="s3://b/", region="eu-west-1"), tmp_path)
    assert {name: value for name, value in told.items() if name.startswith("RCLONE")} == {
        "RCLONE_CONFIG_SOURCE_TYPE": "s3",
        "RCLONE_CONFIG_SOURCE_PROVIDER": "AWS",
        "RCLONE_CONFIG_SOURCE_REGION": "eu-west-1",
    }


def test_the_settings_of_the_user_are_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "RCLONE_CONFIG", "RCLONE_DRY_RUN"):
        monkeypatch.setenv(name, "true")
    told = environment(source("s3", url="s3://b/", endpoint="http://here"), tmp_path)
    assert not {"AWS_SECRET_ACCESS_KEY", "RCLONE_CONFIG", "RCLONE_DRY_RUN"} & set(told)
    assert told["RCLONE_CONFIG_SOURCE_PROVIDER"] == "Other"
    assert told["HOME"] == str(tmp_path)
