"""SqliteStore: one connection, one thread; writes that come together are committed together."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Event
from hale.core.image import Registry
from hale.core.probe import Health, ProbeKind
from hale.core.replica import Phase, Replica
from hale.core.secret import Secret
from hale.errors import StoreError
from hale.store import rows
from hale.store.database import Database, open_database, store_errors

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Something to do with the connection, in its thread."""


class SqliteStore:
    """The Store in one file. A write returns when it is on the disk, synced."""

    def __init__(self, path: Path, database: Database, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._connection = database.connection
        self._seal = database.seal
        self._thread = thread
        self._waiting: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._committing = False
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["SqliteStore"]:
        """Open or make the database; StoreError with a hint when it can't be used as it is."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hale-store") as thread:
            database = await loop.run_in_executor(thread, open_database, path)
            store = cls(path, database, thread)
            try:
                yield store
            finally:
                try:
                    await store._write(_nothing)  # all that came before it is done by then
                finally:
                    store._close()
                    thread.submit(database.close)

    # --- projects and deployments -------------------------------------------------------------

    async def projects(self) -> Sequence[Project]:
        return await self._all(_project, "SELECT * FROM projects ORDER BY created_at, rowid")

    async def put_project(self, project: Project) -> None:
        await self._write(partial(_upsert, "projects", rows.values(project, rows.PROJECT)))

    async def delete_project(self, project_id: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM projects WHERE id = ?", (project_id,))
            db.execute("DELETE FROM secrets WHERE project_id = ?", (project_id,))

        await self._write(work)

    async def apply(self, deployment: Deployment, revision: Revision) -> None:
        def work(db: sqlite3.Connection) -> None:
            _upsert("deployments", rows.values(deployment, rows.DEPLOYMENT), db)
            _upsert("revisions", rows.revision_row(revision, self._seal.sealed), db)

        await self._write(work)

    async def put_deployment(self, deployment: Deployment) -> None:
        await self._write(partial(_upsert, "deployments", rows.values(deployment, rows.DEPLOYMENT)))

    async def deployment(self, deployment_id: str) -> Deployment | None:
        found = await self._all(_deployment, "SELECT * FROM deployments WHERE id = ?", deployment_id)
        return found[0] if found else None

    async def deployments(self) -> Sequence[Deployment]:
        return await self._all(_deployment, "SELECT * FROM deployments ORDER BY created_at, rowid")

    async def delete_deployment(self, deployment_id: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM deployments WHERE id = ?", (deployment_id,))
            db.execute("DELETE FROM revisions WHERE deployment_id = ?", (deployment_id,))
            db.execute("DELETE FROM replicas WHERE deployment_id = ?", (deployment_id,))
            db.execute("DELETE FROM events WHERE deployment_id = ?", (deployment_id,))

        await self._write(work)

    # --- secrets and registries ---------------------------------------------------------------
    # Sealing and reading what is sealed is the thread's: it takes its time, and the first time makes the key.

    async def secrets(self) -> Sequence[Secret]:
        make = partial(rows.secret, unseal=self._seal.unsealed)
        return await self._all(make, "SELECT * FROM secrets ORDER BY created_at, rowid")

    async def put_secret(self, secret: Secret) -> None:
        await self._write(lambda db: _upsert("secrets", rows.secret_row(secret, self._seal.sealed), db))

    async def delete_secret(self, name: str, project_id: str | None) -> None:
        sql = "DELETE FROM secrets WHERE name = ? AND project_id = ?"
        await self._write(lambda db: db.execute(sql, (name, project_id or rows.TEAM)))

    async def registries(self) -> Sequence[Registry]:
        make = partial(rows.registry, unseal=self._seal.unsealed)
        return await self._all(make, "SELECT * FROM registries ORDER BY created_at, rowid")

    async def put_registry(self, registry: Registry) -> None:
        await self._write(
            lambda db: _upsert("registries", rows.registry_row(registry, self._seal.sealed), db)
        )

    async def delete_registry(self, registry_id: str) -> None:
        await self._write(lambda db: db.execute("DELETE FROM registries WHERE id = ?", (registry_id,)))

    # --- revisions ----------------------------------------------------------------------------

    async def put_revision(self, revision: Revision) -> None:
        became = rows.values(revision, ("id", *_BECAME))
        await self._write(lambda db: db.execute(_UPDATE_REVISION, became))

    async def revisions(self, deployment_id: str, *, limit: int | None = None) -> Sequence[Revision]:
        sql = "SELECT * FROM revisions WHERE deployment_id = ? ORDER BY number DESC LIMIT ?"
        make = partial(rows.revision, unseal=self._seal.unsealed)
        return await self._all(make, sql, deployment_id, -1 if limit is None else limit)

    # --- replicas -----------------------------------------------------------------------------

    async def put_replicas(self, states: Sequence[tuple[Replica, Mapping[ProbeKind, Health]]]) -> None:
        records = [rows.replica_row(replica, health) for replica, health in states]
        if records:
            await self._write(lambda db: db.executemany(_UPSERTS["replicas"], records))

    async def replicas(
        self, deployment_id: str | None = None, *, finished: bool = False
    ) -> Sequence[tuple[Replica, Mapping[ProbeKind, Health]]]:
        sql = (
            "SELECT * FROM replicas WHERE (?1 IS NULL OR deployment_id = ?1) AND (?2 OR phase != ?3)"
            " ORDER BY created_at, rowid"
        )
        return await self._all(rows.replica, sql, deployment_id, finished, Phase.STOPPED.value)

    async def delete_replica(self, replica_id: str) -> None:
        await self._write(lambda db: db.execute("DELETE FROM replicas WHERE id = ?", (replica_id,)))

    # --- events -------------------------------------------------------------------------------

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        def work(db: sqlite3.Connection) -> list[Event]:
            ids = [db.execute(_INSERT_EVENT, record).lastrowid or 0 for _, record in records]
            return [replace(event, id=event_id) for (event, _), event_id in zip(records, ids, strict=True)]

        records = [(event, rows.event_row(event)) for event in events]
        return await self._write(work) if records else []

    async def events(
        self,
        deployment_id: str | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        replica_id: str | None = None,
        limit: int = 1000,
        newest_first: bool = False,
    ) -> Sequence[Event]:
        wanted = {
            "deployment_id = ?": deployment_id,
            "replica_id = ?": replica_id,
            "id < ?": before,
            "id > ?": after,
        }
        given = {condition: value for condition, value in wanted.items() if value is not None}
        order = "DESC" if newest_first else "ASC"
        sql = f"SELECT * FROM events WHERE {' AND '.join(given)} ORDER BY id {order} LIMIT ?"  # noqa: S608  constants
        return await self._all(rows.event, sql, *given.values(), limit)

    async def trim_events(self, keep: int) -> None:
        await self._write(lambda db: db.execute(_TRIM_EVENTS, (keep,)))

    # --- the thread ---------------------------------------------------------------------------

    async def _all(self, make: Callable[[rows.Row], T], sql: str, *parameters: object) -> list[T]:
        """What is made of each row, in the thread."""

        def work() -> list[T]:
            with store_errors(f"read the database {self._path}"):
                return [make(dict(row)) for row in self._connection.execute(sql, parameters)]

        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _write(self, work: Work[T]) -> T:
        self._check_open()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        self._pump()
        return await done

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"cannot use the database {self._path}: it is closed")

    def _pump(self) -> None:
        """Hand all that waits to the thread as one commit, unless one is under way."""
        if self._committing or self._closed or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._committing = True
        loop = asyncio.get_running_loop()
        commit = loop.run_in_executor(self._thread, self._commit, [work for work, _ in batch])
        commit.add_done_callback(partial(self._settle, [done for _, done in batch]))

    def _settle(self, futures: list[asyncio.Future[Any]], commit: asyncio.Future[list[object]]) -> None:
        self._committing = False
        failure = commit.exception()
        outcomes = [failure] * len(futures) if failure else commit.result()
        for done, outcome in zip(futures, outcomes, strict=True):
            if done.done():
                continue
            if isinstance(outcome, BaseException):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)
        self._pump()

    def _close(self) -> None:
        self._closed = True
        for _, done in self._waiting:
            done.cancel()

    def _commit(self, works: Sequence[Work[object]]) -> list[object]:
        """Do each work, commit all at once, and answer with what each returned or raised."""
        doing = f"write to the database {self._path}"
        db = self._connection
        try:
            with store_errors(doing):
                db.execute("BEGIN IMMEDIATE")
                outcomes = [_attempt(db, work, doing) for work in works]
                db.execute("COMMIT")
                return outcomes
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _project(row: rows.Row) -> Project:
    return Project(**row)


def _deployment(row: rows.Row) -> Deployment:
    return Deployment(**row)


def _nothing(_: sqlite3.Connection) -> None:
    """Written to learn when the writes before it are done."""


def _attempt(db: sqlite3.Connection, work: Work[object], doing: str) -> object:
    """One work of a batch: all of it or nothing, whatever becomes of the others.

    SQLite itself ends the whole transaction on a full disk; then all of the batch has failed.
    """
    db.execute("SAVEPOINT work")
    try:
        with store_errors(doing):
            result = work(db)
    except StoreError as error:
        if not db.in_transaction:
            raise
        db.execute("ROLLBACK TO work")
        result = error
    db.execute("RELEASE work")
    return result


def _upsert(table: str, record: Mapping[str, object], db: sqlite3.Connection) -> None:
    db.execute(_UPSERTS[table], record)


def _insert_sql(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608  names from our dataclasses


def _upsert_sql(table: str, columns: Sequence[str], key: str = "id") -> str:
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns if column != key)
    return f"{_insert_sql(table, columns)} ON CONFLICT ({key}) DO UPDATE SET {updates}"


_UPSERTS = {
    "projects": _upsert_sql("projects", rows.PROJECT),
    "secrets": _upsert_sql("secrets", rows.SECRET, "project_id, name"),
    "registries": _upsert_sql("registries", rows.REGISTRY),
    "deployments": _upsert_sql("deployments", rows.DEPLOYMENT),
    "revisions": _upsert_sql("revisions", rows.REVISION),
    "replicas": _upsert_sql("replicas", rows.REPLICA),
}
_BECAME = ("applied_at", "healthy_at", "error", "image", "prepared_at")
_UPDATE_REVISION = f"UPDATE revisions SET {', '.join(f'{name} = :{name}' for name in _BECAME)} WHERE id = :id"  # noqa: S608  constants
_INSERT_EVENT = _insert_sql("events", rows.EVENT)
# Events of no deployment, and of those that are gone, count as of one.
_TRIM_EVENTS = """
DELETE FROM events WHERE id IN (
    SELECT id FROM (
        SELECT events.id, ROW_NUMBER() OVER (PARTITION BY deployments.id ORDER BY events.id DESC) AS age
        FROM events LEFT JOIN deployments ON deployments.id = events.deployment_id
    ) WHERE age > ?
)
"""
