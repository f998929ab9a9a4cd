"""What a file can do to a Store: damage, locks, full disks, power cuts."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Event
from hale.core.probe import Health, ProbeKind, Verdict
from hale.core.replica import Replica
from hale.errors import StoreError
from hale.store import database
from hale.store.sqlite import SqliteStore

pytestmark = pytest.mark.real_time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hale.db"


async def refusal(path: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        async with SqliteStore.open(path):
            pass
    assert caught.value.hint
    return caught.value


async def filled(path: Path, count: int = 50) -> None:
    async with SqliteStore.open(path) as store:
        await store.put_project(Project("p", "project", 1.0))
        await store.append([Event(float(n), "t", "x" * 200) for n in range(count)])


def pragma(path: Path, text: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {text}").fetchone()


# --- a sound file ---------------------------------------------------------------------------------


async def test_what_was_kept_is_there_after_closing_and_opening(path: Path) -> None:
    await filled(path)
    async with SqliteStore.open(path) as store:
        assert (await store.projects(), len(await store.events())) == ([Project("p", "project", 1.0)], 50)


async def test_a_new_database_has_schema_version_2_and_a_write_ahead_log(path: Path) -> None:
    await filled(path)
    assert pragma(path, "user_version") == (2,)
    assert pragma(path, "journal_mode") == ("wal",)


async def test_every_commit_is_synced(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        assert await store._all(dict, "PRAGMA synchronous") == [{"synchronous": 2}]


async def test_the_files_are_for_their_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        async with SqliteStore.open(path) as store:
            await store.put_project(Project("p", "project", 1.0))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("hale.db", "hale.db-wal", "hale.db-shm"), 0o600)


async def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    await filled(path)
    path.chmod(0o644)
    await filled(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_path_with_signs_that_mean_something_in_a_uri_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#b%20c d" / "hale.db"
    path.parent.mkdir()
    await filled(path)
    assert path.exists()


async def test_hundreds_of_replicas_are_one_quick_commit(path: Path) -> None:
    health = {kind: Health(Verdict.PASSING, 3, ok=True) for kind in ProbeKind}
    states = [(Replica(f"r{n}", "d", 1, "key", float(n)), health) for n in range(1000)]
    async with SqliteStore.open(path) as store:
        await store.put_replicas(states)
        commits = await store._all(dict, "PRAGMA data_version")
        began = time.monotonic()
        await store.put_replicas(states)
        took = time.monotonic() - began
        assert len(await store.replicas()) == 1000
        assert await store._all(dict, "PRAGMA data_version") == commits
    assert took < 2


async def test_the_loop_goes_on_while_the_disk_is_slow(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        slow = asyncio.ensure_future(store._write(lambda _: time.sleep(0.5)))
        turns = 0
        while not slow.done():
            await asyncio.sleep(0.005)
            turns += 1
    assert turns > 10


async def test_writes_that_wait_are_committed_together(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        statements: list[str] = []
        await store._write(lambda db: db.set_trace_callback(statements.append))
        await asyncio.gather(*(store.append([Event(1.0, "t", str(n))]) for n in range(100)))
    assert statements.count("COMMIT") <= 5


async def test_a_cancelled_caller_takes_nobody_else_down(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        first = asyncio.ensure_future(store._write(lambda _: time.sleep(0.1)))
        await asyncio.sleep(0)
        doomed = asyncio.ensure_future(store.append([Event(1.0, "t", "doomed")]))
        beside = asyncio.ensure_future(store.append([Event(1.0, "t", "beside")]))
        await asyncio.sleep(0)
        doomed.cancel()
        await asyncio.gather(first, beside)
        assert doomed.cancelled()
        assert "beside" in [event.message for event in await store.events()]


async def test_a_mistake_in_the_code_of_a_write_is_told_and_the_store_goes_on(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        with pytest.raises(ZeroDivisionError):
            await store._write(lambda _: 1 // 0)
        await store.append([Event(1.0, "t", "after")])
        assert [event.message for event in await store.events()] == ["after"]


async def test_text_that_is_not_unicode_is_refused_and_the_store_goes_on(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        with pytest.raises(StoreError, match="cannot write to the database"):
            await store.append([Event(1.0, "t", "\ud800")])
        await store.append([Event(1.0, "t", "after")])
        assert [event.message for event in await store.events()] == ["after"]


async def test_writes_under_way_are_kept_when_the_store_is_closed(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        tasks = [asyncio.ensure_future(store.append([Event(1.0, "t", str(n))])) for n in range(20)]
        await asyncio.sleep(0)
    assert all([(await task)[0].id for task in tasks])
    async with SqliteStore.open(path) as store:
        assert len(await store.events()) == 20


async def test_a_closed_store_says_so(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        pass
    with pytest.raises(StoreError, match="it is closed"):
        await store.projects()
    with pytest.raises(StoreError, match="it is closed"):
        await store.append([Event(1.0, "t", "late")])


# --- refused, and left as it was ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"not a database\n" * 1000, "not a database", id="text"),
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 5000, "damaged", id="magic and rubbish"),
        pytest.param(b"\0" * 8192, "not a database", id="zeroes"),
    ],
)
async def test_what_is_no_database_is_refused_and_not_touched(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    path.chmod(0o640)
    before = path.stat()
    error = await refusal(path)
    assert why in error.message
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, before.st_mtime_ns)
    assert [file.name for file in path.parent.iterdir()] == ["hale.db"]
    assert path.stat().st_mode == before.st_mode


@pytest.mark.parametrize("place", [100, 4096 + 8, 3 * 4096 + 3])
async def test_a_damaged_database_is_refused_and_not_touched(path: Path, place: int) -> None:
    await filled(path, count=500)
    content = bytearray(path.read_bytes())
    content[place : place + 400] = b"\xa5" * 400
    path.write_bytes(content)
    error = await refusal(path)
    assert "damaged" in error.message
    assert path.read_bytes() == bytes(content)


async def test_a_truncated_database_is_refused_and_not_touched(path: Path) -> None:
    await filled(path, count=500)
    content = path.read_bytes()[: 3 * 4096]
    path.write_bytes(content)
    assert "damaged" in (await refusal(path)).message
    assert path.read_bytes() == content


async def test_a_newer_database_is_refused_and_not_touched(path: Path) -> None:
    await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    content = path.read_bytes()
    error = await refusal(path)
    assert "a newer hale made it (schema version 3; this one knows 2)" in error.message
    assert path.read_bytes() == content


async def test_a_newer_database_that_was_not_closed_keeps_its_log(path: Path) -> None:
    await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
        copy = path.parent / "copy"
        copy.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", copy)
    log = (copy / "hale.db-wal").read_bytes()
    assert "newer" in (await refusal(copy / "hale.db")).message
    assert (copy / "hale.db-wal").read_bytes() == log


@pytest.mark.parametrize("version", [-1, 0, 1, 2])
async def test_a_database_of_somebody_else_is_refused(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
    assert "it is not a database of hale" in (await refusal(path)).message


async def test_a_log_without_its_database_is_not_mixed_into_a_new_one(path: Path) -> None:
    log = path.with_name("hale.db-wal")
    log.write_bytes(b"of another")
    assert "hale.db-wal of another one is beside it" in (await refusal(path)).message
    assert (log.read_bytes(), path.exists()) == (b"of another", False)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = await refusal(tmp_path / "nowhere" / "hale.db")
    assert "its folder does not exist" in error.message


async def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="is a directory"):
        async with SqliteStore.open(path):
            pass


AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from hale.errors import StoreError
from hale.store.sqlite import SqliteStore

async def main():
    try:
        async with SqliteStore.open(Path(sys.argv[1])):
            print("opened")
    except StoreError as error:
        print(error.message)

if os.getuid() == 0:
    os.setgroups([])
    os.setuid(65534)
asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["folder", "file"])
async def test_no_permission_is_an_error_of_its_own(what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hale.db"
        if what == "file":
            await filled(path)
            path.chmod(0o600 if os.getuid() == 0 else 0o000)
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", AS_NOBODY, str(path)]
        answer = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        Path(folder).chmod(0o755)
    assert answer.stdout == f"cannot open the database {path}: no permission\n"


async def test_a_second_hale_on_the_same_database_is_refused(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        error = await refusal(path)
        await store.append([Event(1.0, "t", "undisturbed")])
    assert "another hale uses it" in error.message


async def test_it_can_be_read_by_others_while_it_is_open(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        await store.put_project(Project("p", "project", 1.0))
        assert pragma(path, "user_version") == (2,)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT id FROM projects").fetchall() == [("p",)]


async def test_a_lock_of_another_process_is_an_error_and_passes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path)
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "it is locked by another process" in (await refusal(path)).message
        other.execute("ROLLBACK")
        async with SqliteStore.open(path) as store:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked by another process"):
                await store.append([Event(1.0, "t", "no")])
            other.execute("ROLLBACK")
            await store.append([Event(1.0, "t", "yes")])
            assert (await store.events())[-1].message == "yes"


async def test_a_full_disk_is_an_error_and_the_store_works_again_when_there_is_room(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        await store.append([Event(1.0, "t", "before")])
        ((pages,),) = [tuple(row.values()) for row in await store._all(dict, "PRAGMA page_count")]
        await store._all(dict, f"PRAGMA max_page_count = {pages + 2}")
        outcomes = await asyncio.gather(
            *(store.append([Event(1.0, "t", "x" * 100_000)]) for _ in range(3)), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes] == [
            f"cannot write to the database {path}: the disk is full"
        ] * 3
        await store._all(dict, "PRAGMA max_page_count = 100000")
        await store.append([Event(1.0, "t", "after")])
        assert [event.message for event in await store.events()] == ["before", "after"]


# --- power cuts -----------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from hale.core.event import Event
from hale.store.sqlite import SqliteStore

async def main():
    async with SqliteStore.open(Path(sys.argv[1])) as store:
        while True:
            kept = await store.append([Event(1.0, "t", "x" * 3000) for _ in range(20)])
            print(kept[-1].id, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 120])
async def test_what_returned_is_there_after_a_kill_at_any_moment(path: Path, acknowledged: int) -> None:
    def run() -> int:
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            for _ in range(acknowledged):
                last = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().splitlines()
        return int(rest[-1]) if rest else last

    last = await asyncio.to_thread(run)
    async with SqliteStore.open(path) as store:
        ids = [event.id for event in await store.events(limit=10**9)]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) >= last


async def test_files_copied_at_a_moment_between_two_writes_are_a_whole_database(path: Path) -> None:
    deployment = Deployment("d", "default", "web", "web", 1.0)
    async with SqliteStore.open(path) as store:
        for number in range(1, 40):
            await store.apply(deployment, Revision(f"r{number}", "d", number, "x" * 50_000, 1.0))
            copy = path.parent / str(number)
            copy.mkdir()
            for file in path.parent.glob("hale.db*"):
                shutil.copy(file, copy)
    for number in range(1, 40):
        async with SqliteStore.open(path.parent / str(number) / "hale.db") as copied:
            assert len(await copied.revisions("d")) == number


async def test_a_power_cut_while_it_was_being_made_is_no_trouble(path: Path) -> None:
    path.with_name("hale.db.new").write_bytes(b"half a database")
    path.with_name("hale.db.new-wal").write_bytes(b"half a log")
    await filled(path)
    async with SqliteStore.open(path) as store:
        assert await store.projects() == [replace(Project("p", "project", 1.0))]
    assert [file.name for file in path.parent.iterdir()] == ["hale.db"]
