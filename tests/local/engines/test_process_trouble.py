"""What may go wrong around processes: broken-off calls, keepers that come and go, pids that are another's."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hale.clock import Clock
from hale.errors import EngineError
from hale.local.engines import keeper
from hale.local.engines.keeper_link import KeeperLink
from hale.local.engines.process import ProcessEngine
from hale.ports import Instance
from tests.conformance.engine import exited, found, launch, template, until

pytestmark = pytest.mark.real_time


def made(folder: Path) -> ProcessEngine:
    return ProcessEngine(folder / "replicas", Clock.start(), ignore_images=False)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ProcessEngine]:
    async with made(tmp_path) as engine:
        try:
            yield engine
        finally:
            await cleared(engine)


async def cleared(engine: ProcessEngine) -> None:
    for instance in await engine.instances():
        await engine.stop(instance.replica_id, grace=0)
    await engine.shutdown()


async def run(engine: ProcessEngine, *command: str, replica_id: str = "r1", **fields: object) -> Instance:
    return await engine.start(launch(replica_id, made_of=template(command, **fields)))


def parent(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int | None) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def running_in(folder: Path) -> list[int]:
    """Pids of everything that was started for the replicas of the folder."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _marked(pid, folder)]


def _marked(pid: int, folder: Path) -> bool:
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/environ").read_bytes() and not gone(pid)
    except OSError:
        return False


# --- calls that are broken off ------------------------------------------------------------------


async def test_a_start_whose_caller_lost_patience_is_seen_through(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        start = group.create_task(engine.start(launch()))
        await asyncio.sleep(0)
        start.cancel()
    instance = await engine.start(launch())
    assert await engine.start(launch("r2")) == await found(engine, "r2")
    assert (await found(engine)).pid == instance.pid
    await until(lambda: len(running_in(tmp_path / "replicas")) == 2)


async def test_an_attempt_is_started_once_whoever_asks(tmp_path: Path) -> None:
    async with made(tmp_path) as first, made(tmp_path) as second:
        instance = await first.start(launch())
        assert await second.start(launch()) == instance
        await cleared(first)


async def test_a_stop_may_be_broken_off_and_asked_for_again(engine: ProcessEngine) -> None:
    await run(engine, "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    await until_said(engine, "deaf")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await engine.stop("r1", grace=60)
    await engine.stop("r1", grace=0)
    assert (await found(engine)).exit_code == -signal.SIGKILL


async def test_two_who_stop_the_same_replica_both_see_it_gone(engine: ProcessEngine) -> None:
    pid = (await run(engine, "sleep", "1000")).pid
    await asyncio.gather(engine.stop("r1", grace=30), engine.stop("r1", grace=30))
    assert gone(pid)


# --- the keeper ---------------------------------------------------------------------------------


async def test_the_keeper_is_small(engine: ProcessEngine) -> None:
    status = Path(f"/proc/{parent((await run(engine, 'sleep', '1000')).pid)}/status").read_text()
    (rss,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert rss < 12 * 1024


async def test_the_keeper_ends_by_itself_when_it_has_neither_replica_nor_daemon(tmp_path: Path) -> None:
    async with made(tmp_path) as engine:
        kept_by = parent((await run(engine, "sh", "-c", "sleep 1; exit 4")).pid)
    assert not gone(kept_by)
    await until(lambda: gone(kept_by))
    async with made(tmp_path) as engine:
        assert (await exited(engine)).exit_code == 4
        await cleared(engine)


async def test_daemons_that_come_and_go_find_or_make_a_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that ends at once when it is idle, so that every other daemon meets one that is just ending.
    impatient(tmp_path, monkeypatch)
    for number in range(30):
        async with made(tmp_path) as engine:
            await run(engine, "true", replica_id=f"r{number}")
            assert (await exited(engine, f"r{number}")).exit_code == 0
    async with made(tmp_path) as engine:
        await cleared(engine)


def impatient(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(keeper.__file__).read_text()
    assert "_LINGER = 3.0" in text
    (folder / "keeper.py").write_text(text.replace("_LINGER = 3.0", "_LINGER = 0.001"))
    monkeypatch.setattr(keeper, "__file__", str(folder / "keeper.py"))


async def test_a_keeper_of_another_version_keeps_its_replicas_and_their_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(tmp_path) as old:
        before = await run(old, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")
        await until_said(old, "up")
    newer = tmp_path / "keeper.py"
    newer.write_text(Path(keeper.__file__).read_text().replace("VERSION = 1", "VERSION = 2"))
    monkeypatch.setattr(keeper, "__file__", str(newer))
    monkeypatch.setattr(keeper, "SOCKET", "keeper2.sock")
    async with made(tmp_path) as new:
        assert await found(new) == before
        after = await run(new, "sleep", "1000", replica_id="r2")
        assert parent(after.pid) != parent(before.pid)
        await new.stop("r1", grace=30)
        assert (await found(new)).exit_code == 7
        await cleared(new)


async def test_a_keeper_that_cannot_open_files_says_so_and_goes_on(engine: ProcessEngine) -> None:
    kept_by = parent((await run(engine, "sleep", "1000")).pid)
    limits = resource.prlimit(kept_by, resource.RLIMIT_NOFILE)
    refused = []
    for more in range(4):
        count = len(os.listdir(f"/proc/{kept_by}/fd")) + more
        resource.prlimit(kept_by, resource.RLIMIT_NOFILE, (count, limits[1]))
        try:
            await run(engine, "sleep", "1000", replica_id=f"few{more}")
        except EngineError as error:
            refused.append(error.message.rpartition(": ")[2])
    assert set(refused) == {"too many open files"}
    resource.prlimit(kept_by, resource.RLIMIT_NOFILE, limits)
    assert parent((await run(engine, "sleep", "1000", replica_id="r2")).pid) == kept_by


async def test_what_cannot_be_recorded_is_not_started(engine: ProcessEngine, tmp_path: Path) -> None:
    kept_by = parent((await run(engine, "sleep", "1000", replica_id="r0")).pid)
    limits = resource.prlimit(kept_by, resource.RLIMIT_FSIZE)
    resource.prlimit(kept_by, resource.RLIMIT_FSIZE, (0, limits[1]))
    with pytest.raises(EngineError, match=r"cannot start sleep: cannot write in .*: file too large"):
        await run(engine, "sleep", "1000")
    resource.prlimit(kept_by, resource.RLIMIT_FSIZE, limits)
    await until(lambda: len(running_in(tmp_path / "replicas")) == 1)
    assert (await run(engine, "sleep", "1000")).running


async def test_on_a_full_disk_exit_codes_are_known_all_the_same(small: Path) -> None:
    async with made(small) as engine:
        pid = (await run(engine, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")).pid
        await until_said(engine, "up")
        with (small / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(EngineError, match="no space left on device"):
            await run(engine, "sleep", "1000", replica_id="r2")
        os.kill(pid or 0, signal.SIGTERM)
        assert (await exited(engine)).exit_code == 7
        await cleared(engine)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which can be filled."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_data_folder_may_have_any_length(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    async with made(deep) as engine:
        assert (await run(engine, "sleep", "1000")).running
        await cleared(engine)


async def test_who_asks_nonsense_is_hung_up_on_and_nobody_else(engine: ProcessEngine, tmp_path: Path) -> None:
    await run(engine, "sleep", "1000")
    other = KeeperLink(tmp_path / "replicas")
    await other.open()
    assert other._streams is not None
    reader, writer = other._streams
    writer.write(b"nonsense\n")
    assert await reader.read() == b""
    other.close()
    assert (await run(engine, "sleep", "1000", replica_id="r2")).running


# --- pids ---------------------------------------------------------------------------------------


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("recorded", [True, False], ids=["its end is recorded", "its end is not recorded"])
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "left alone"])
async def test_a_process_that_bears_the_pid_of_a_replica_that_ended_is_left_alone(
    tmp_path: Path, bystander: subprocess.Popen[bytes], recorded: bool, stopped: bool
) -> None:
    async with made(tmp_path) as engine:
        await run(engine, "true")
        await exited(engine)
    attempt = tmp_path / "replicas" / "r1" / "1"
    record = json.loads((attempt / "launch.json").read_text())
    (attempt / "launch.json").write_text(json.dumps(record | {"pid": bystander.pid}))
    if not recorded:
        (attempt / "exit.json").unlink()
    async with made(tmp_path) as engine:
        if stopped:
            await engine.stop("r1", grace=0)
        await exited(engine)
        await engine.stop("r1", grace=5)
        await cleared(engine)
    assert bystander.poll() is None


async def test_one_whose_first_thread_has_ended_is_killed_all_the_same(engine: ProcessEngine) -> None:
    program = (
        "import ctypes, signal, threading, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "threading.Thread(target=time.sleep, args=(1000,)).start(); ctypes.CDLL(None).pthread_exit(None)"
    )
    pid = (await run(engine, sys.executable, "-I", "-S", "-c", program)).pid
    await until(lambda: gone(pid))
    assert (await found(engine)).running
    await engine.stop("r1", grace=0.1)
    assert (await found(engine)).exit_code == -signal.SIGKILL


# --- records and logs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", '{"pid": 1}', '{"replica_id": "r1", "attempt": 1, "ports": []}', "\0" * 100],
)
async def test_a_spoilt_record_is_passed_over(tmp_path: Path, text: str) -> None:
    spoilt = tmp_path / "replicas" / "r1" / "1"
    spoilt.mkdir(parents=True)
    (spoilt / "launch.json").write_text(text)
    async with made(tmp_path) as engine:
        assert list(await engine.instances()) == []
        await cleared(engine)


async def test_a_record_with_more_than_this_version_knows_is_read(tmp_path: Path) -> None:
    async with made(tmp_path) as engine:
        before = await run(engine, "sleep", "1000", env=(("PORT", "80"),))
    path = tmp_path / "replicas" / "r1" / "1" / "launch.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cgroup": "of a later hale"}))
    async with made(tmp_path) as engine:
        assert await found(engine) == before
        assert before.notes
        await cleared(engine)


async def test_a_flood_of_output_is_bounded_on_disk(engine: ProcessEngine, tmp_path: Path) -> None:
    await run(engine, "sh", "-c", "yes 0123456789 | head -c 110000000; echo the end")
    await exited(engine)
    await until(lambda: engine._held["r1"].gone.is_set())
    kept = sum(path.stat().st_size for path in (tmp_path / "replicas" / "r1" / "1").iterdir())
    assert kept < 60_000_000
    assert (await engine.log_lines("r1", after=(1, 110_000_000 - 11)))[-1].text == "the end"


async def until_said(engine: ProcessEngine, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in [line.text for line in await engine.log_lines("r1")]:
            await asyncio.sleep(0.01)
