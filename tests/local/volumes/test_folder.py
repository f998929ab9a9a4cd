"""Where volumes are, what they let happen, and what is left when it ends in the middle."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
from kit.processes import processes_of, running
from kit.until import until
from s3_server import S3Server

from hale.core.volume import Source
from hale.errors import HaleError, PreparationError
from hale.local.volumes.folder import FolderVolumes
from tests.conformance.engine import until as eventually
from tests.local.volumes.conftest import bucket, source, tree, untold

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("name", ["../../etc", "a/b", "Über model", "x" * 300, ".", ".filling-x"])
def test_whatever_its_name_a_volume_is_a_folder_of_its_deployment(place: Path, name: str) -> None:
    folder = Path(FolderVolumes(place).folder("d1", source(name=name, key=name)))
    assert folder.parent == place / "d1"
    assert not folder.name.startswith(".")
    assert len(folder.name) < 100


async def test_a_writable_volume_is_empty_and_any_user_may_write_there(volumes: FolderVolumes) -> None:
    await volumes.fill("d1", source(), untold)
    folder = Path(volumes.folder("d1", source()))
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o777 == 0o777


async def test_nobody_else_gets_as_far_as_the_volumes(volumes: FolderVolumes, place: Path) -> None:
    await volumes.fill("d1", source(), untold)
    assert [path.stat().st_mode & 0o777 for path in (place, place / "d1")] == [0o700, 0o700]


async def test_what_was_written_to_a_volume_stays(volumes: FolderVolumes) -> None:
    await volumes.fill("d1", source(), untold)
    (Path(volumes.folder("d1", source())) / "state").write_text("kept")
    await volumes.keep("d1", {source().key})
    await volumes.fill("d1", source(), untold)
    assert tree(volumes.folder("d1", source())) == {"state": b"kept"}


async def test_links_in_a_volume_are_not_followed_when_it_is_removed(
    volumes: FolderVolumes, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    await volumes.fill("d1", source(), untold)
    folder = Path(volumes.folder("d1", source()))
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "deep").mkdir()
    (folder / "deep" / "out").symlink_to(tmp_path / "outside")
    await volumes.keep("d1", ())
    assert not folder.parent.exists()
    assert (tmp_path / "outside" / "precious").read_text() == "x"


async def test_a_volume_that_is_a_link_goes_and_what_it_points_to_stays(
    volumes: FolderVolumes, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    folder = Path(volumes.folder("d1", source()))
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "elsewhere")
    await volumes.keep("d1", ())
    assert not folder.is_symlink()
    assert (tmp_path / "elsewhere" / "precious").exists()


async def test_two_who_fill_the_same_volume_take_turns(volumes: FolderVolumes, s3: S3Server) -> None:
    s3.put("models", "falcon/a", b"a")
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(volumes.fill("d1", bucket(s3), untold))
    assert tree(volumes.folder("d1", bucket(s3))) == {"a": b"a"}


async def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HaleError, match=r"cannot keep volumes in .*/file/volumes: .*not a directory"):
        await FolderVolumes(tmp_path / "file" / "volumes").__aenter__()


async def test_what_stands_in_the_place_of_a_volume_is_named(volumes: FolderVolumes) -> None:
    folder = Path(volumes.folder("d1", source()))
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    with pytest.raises(PreparationError, match="cannot make volume falcon: ") as raised:
        await volumes.fill("d1", source(), untold)
    assert raised.value.event == "volume.failed"


async def test_an_error_of_the_block_comes_out_as_it_is(place: Path) -> None:
    with pytest.raises(HaleError, match=r"^mine$"):
        async with FolderVolumes(place):
            raise HaleError("mine")


# --- ends in the middle -------------------------------------------------------------------------

FILLER = """
import asyncio, json, sys
from pathlib import Path
import uvloop
from hale.core.volume import Source
from hale.local.volumes.folder import FolderVolumes

async def main(folder, source):
    async with FolderVolumes(folder) as volumes:
        await volumes.fill("d1", source, lambda progress: print(progress, flush=True))

uvloop.run(main(Path(sys.argv[1]), Source(**json.loads(sys.argv[2]))))
"""


def started(place: Path, wanted: Source) -> subprocess.Popen[bytes]:
    """A process that fills the volume."""
    command = [sys.executable, "-c", FILLER, str(place), json.dumps(asdict(wanted))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def at_work(place: Path, program: str) -> Mapping[int, str]:
    return {
        pid: command
        for pid, command in processes_of(place).items()
        if program in command and "FolderVolumes" not in command
    }


async def test_killed_in_the_middle_nothing_goes_on_and_nothing_is_taken_for_whole(
    place: Path, s3: S3Server
) -> None:
    for number in range(20):
        s3.put("models", f"falcon/{number}", os.urandom(1 << 20))
    wanted = bucket(s3)
    filler = started(place, wanted)
    until(lambda: list(place.glob("d1/.filling-*/volume/*")), within=60, what="something is fetched")
    s3.pause()
    pids = list(at_work(place, "rclone"))
    filler.send_signal(signal.SIGKILL)
    filler.wait()
    until(lambda: not any(map(running, pids)), within=30, what="rclone is gone")
    assert pids
    assert list(place.glob("d1/[!.]*")) == []
    s3.resume()
    async with FolderVolumes(place) as volumes:
        await volumes.fill("d1", wanted, untold)
        folder = Path(volumes.folder("d1", wanted))
        assert tree(folder) == tree(s3.folder / "models" / "falcon")
        await eventually(lambda: list(folder.parent.iterdir()) == [folder])


async def test_a_guard_that_is_killed_takes_its_command_along(place: Path, s3: S3Server) -> None:
    s3.put("models", "falcon/a", b"a")
    s3.pause()
    filler = started(place, bucket(s3))
    until(lambda: len(at_work(place, "rclone")) == 2, within=60, what="rclone is at work")
    pids = at_work(place, "rclone")
    (guard,) = [pid for pid, command in pids.items() if "guard.py" in command]
    os.kill(guard, signal.SIGKILL)
    until(lambda: not any(map(running, pids)), within=30, what="rclone is gone")
    assert filler.wait(timeout=60) == 1


async def test_a_start_removes_what_was_half_filled_or_half_removed(place: Path) -> None:
    whole = Path(FolderVolumes(place).folder("d1", source()))
    for name in (whole.name, f".filling-{whole.name}-0000", f".removing-{whole.name}-0000"):
        (place / "d1" / name / "volume").mkdir(parents=True)
    (place / "gone" / ".removing-x-0000").mkdir(parents=True)
    async with FolderVolumes(place):
        await eventually(lambda: os.listdir(place) == ["d1"] and os.listdir(place / "d1") == [whole.name])
    assert [path.name for path in whole.iterdir()] == ["volume"]


async def test_what_is_removed_at_the_start_is_not_removed_twice_at_once(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(500):
        (place / "d1" / ".removing-x-0000" / str(number % 10) / str(number)).mkdir(parents=True)
    async with FolderVolumes(place) as volumes:
        await volumes.keep("d1", ())
    assert os.listdir(place) == []
    assert caplog.records == []


async def test_what_is_half_filled_goes_with_the_others(
    volumes: FolderVolumes, s3: S3Server, place: Path
) -> None:
    s3.put("models", "falcon/a", b"a")
    s3.stop()
    for deployment in ("d1", "d2"):
        with pytest.raises(PreparationError):
            await volumes.fill(deployment, bucket(s3), untold)
        assert list(place.glob(f"{deployment}/.filling-*"))
    await volumes.keep("d1", {"another"})
    await volumes.keep("d2", {bucket(s3).key})
    assert not list(place.glob("d1/.*"))
    assert list(place.glob("d2/.filling-*"))
