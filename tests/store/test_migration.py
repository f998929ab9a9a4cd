"""Databases of older hales: brought up to date with all that is in them, in one commit."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Event
from hale.core.probe import Health, ProbeKind, Verdict
from hale.core.replica import Phase, Replica
from hale.core.secret import Secret
from hale.errors import StoreError
from hale.store import database
from hale.store.sqlite import SqliteStore

pytestmark = pytest.mark.real_time

VERSION_1 = (Path(__file__).parent / "version_1.sql").read_text()
"""The schema as the first hale made it, and rows as it wrote them."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of version 1."""
    path = tmp_path / "hale.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {VERSION_1} COMMIT;")
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Columns and indexes by table, as SQLite knows them."""
    with closing(sqlite3.connect(path)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            name: [
                *connection.execute(f"PRAGMA table_info({name})"),
                *connection.execute(f"PRAGMA index_list({name})"),
                *connection.execute("SELECT strict FROM pragma_table_list WHERE name = ?", (name,)),
            ]
            for name in names
        }


async def assert_all_is_there(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        assert await store.projects() == [Project("default", "default", 1.0)]
        assert await store.deployments() == [Deployment("d1", "default", "web", "web", 2.0, 3)]
        assert await store.revisions("d1") == [
            Revision("r2", "d1", 2, '{"name":"web"}', 4.0, error="no port"),
            Revision("r1", "d1", 1, '{"name":"web"}', 2.0, 2.5, 3.5, None, {"x-git-sha": "abc"}),
        ]
        ((replica, health),) = await store.replicas()
        assert (replica, health) == (
            Replica("i1", "d1", 1, "key", 2.5, Phase.READY, 3.0, attempt=1, started_at=2.6, ready_at=3.0),
            {ProbeKind.STARTUP: Health(Verdict.PASSING, 2, ok=True)},
        )
        assert await store.events() == [
            Event(2.0, "deployment.created", "created with 1 replica", "d1", 1, id=41)
        ]


async def test_a_database_of_version_1_is_brought_up_to_date_with_all_that_is_in_it(path: Path) -> None:
    await assert_all_is_there(path)
    assert version(path) == 2
    await assert_all_is_there(path)


async def test_its_tables_are_those_of_a_new_database(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for each in (path, new):
        async with SqliteStore.open(each):
            pass
    assert tables(path) == tables(new)


async def test_it_takes_what_is_new(path: Path) -> None:
    used = Secret("TOKEN", "value", 1.0, 1.0)
    revision = Revision("r3", "d1", 3, "{}", 5.0, secrets=(used,), image="web@sha256:1", prepared_at=6.0)
    async with SqliteStore.open(path) as store:
        await store.put_secret(used)
        await store.apply(Deployment("d1", "default", "web", "web", 2.0), revision)
        (following,) = await store.append([Event(1.0, "t", "x")])
    async with SqliteStore.open(path) as store:
        assert (await store.secrets(), (await store.revisions("d1"))[0]) == ([used], revision)
    assert following.id == 42


async def test_one_that_was_not_closed_is_brought_up_to_date_too(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "hale.db"
    copy.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE deployments SET restarts = 4")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    async with SqliteStore.open(copy) as store:
        assert [deployment.restarts for deployment in await store.deployments()] == [4]
    assert version(copy) == 2


STOPS_HALFWAY = """
import asyncio, os, signal, sys
from pathlib import Path
from hale.store import database
from hale.store.sqlite import SqliteStore

whole, table = database._sql, "CREATE TABLE registries"
database._sql = lambda name: whole(name).replace(table, f"SELECT die(); {table}")

connect = database._connect
def with_die(path):
    connection = connect(path)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    connection.execute("PRAGMA cache_spill = 1")
    return connection
database._connect = with_die

async def main():
    async with SqliteStore.open(Path(sys.argv[1])):
        print("opened")

asyncio.run(main())
"""


async def test_a_kill_in_the_middle_loses_nothing(path: Path) -> None:
    command = [sys.executable, "-c", STOPS_HALFWAY, str(path)]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
    assert version(path) == 1
    await assert_all_is_there(path)
    assert version(path) == 2


async def test_a_step_that_fails_leaves_the_old_database_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = database._sql
    monkeypatch.setattr(database, "_sql", lambda name: whole(name) + "CREATE TABLE revisions (id TEXT);")
    with pytest.raises(StoreError, match=r"cannot open the database .*: table revisions already exists"):
        async with SqliteStore.open(path):
            pass
    assert version(path) == 1
    monkeypatch.undo()
    await assert_all_is_there(path)
