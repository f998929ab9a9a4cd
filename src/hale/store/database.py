"""Opening the database file: made whole or not at all, refused when it is not ours, never repaired.

A new database is made beside its place and moved there when it is complete, so that a file under
the real name is a whole database whenever the power fails. An existing one is first looked at
through a read-only connection: a file that is refused is left as it was, byte for byte.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from hale.errors import StoreError
from hale.store.seal import Seal

SCHEMA_VERSION = 2
APPLICATION_ID = 0x68616C65  # "hale": what makes a SQLite file ours
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that writes (a backup, a person with a SQL shell)."""

MOVE_AWAY = "put a copy of the file back, or move it (with its -wal) away to begin with an empty one"


@dataclass(frozen=True, slots=True)
class Database:
    """An open connection, the seal of what is secret in it, and the lock that keeps a second hale out."""

    connection: sqlite3.Connection
    seal: Seal
    lock: int

    def close(self) -> None:
        # In this order: closing any descriptor of the file drops SQLite's own POSIX locks on it.
        self.connection.close()
        os.close(self.lock)


def open_database(path: Path) -> Database:
    """Open the file, or make it when nothing is there; blocks. StoreError when it can't be used.

    One of an older hale is brought to the newest schema, in one commit.
    """
    with store_errors(f"open the database {path}"):
        if not path.exists():
            _create(path)
        lock = _lock(path)
        try:
            _verify(path)
            os.fchmod(lock, 0o600)
            connection = _connect(path)
            return Database(connection, _ready(connection, path), lock)
        except BaseException:
            os.close(lock)
            raise


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Translate what SQLite and the system say; both stay behind this line."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
        why, hint = _explain(error)
        raise StoreError(f"cannot {doing}: {why}", hint=hint) from error


def _create(path: Path) -> None:
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists():
        raise StoreError(
            f"cannot make the database {path}: {wal.name} of another one is beside it",
            hint=f"put {path.name} back, or move {wal.name} away too",
        )
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, new.with_name(f"{new.name}-wal"), new.with_name(f"{new.name}-shm")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(
            f"BEGIN; {_sql('schema.sql')}"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _sql(name: str) -> str:
    return (files("hale.store") / name).read_text(encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(
            f"cannot open the database {path}: another hale uses it",
            hint="end the other one, or choose another folder with --data",
        ) from None
    return descriptor


def _verify(path: Path) -> None:
    doing = f"cannot open the database {path}"
    if path.stat().st_size == 0:
        raise StoreError(f"{doing}: the file is empty", hint=MOVE_AWAY)
    with closing(_attach(path, "ro")) as connection:
        version = int(_pragma(connection, "user_version"))
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{doing}: a newer hale made it (schema version {version}; this one knows {SCHEMA_VERSION})",
                hint="install the newer hale again, or choose another folder with --data",
            )
        if version < 1 or _pragma(connection, "application_id") != APPLICATION_ID:
            raise StoreError(
                f"{doing}: it is not a database of hale",
                hint="choose another folder with --data, or move the file away",
            )
        damage = _pragma(connection, "quick_check(1)")
        if damage != "ok":
            raise StoreError(f"{doing}: it is damaged ({' '.join(str(damage).split())})", hint=MOVE_AWAY)


def _connect(path: Path) -> sqlite3.Connection:
    connection = _attach(path, "rw")
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL syncs the log at each commit. NORMAL would keep the file whole too, but a power cut
        # could take back what callers were told is kept; group commit pays for the syncs.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {16 * 1024 * 1024}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def _ready(connection: sqlite3.Connection, path: Path) -> Seal:
    """Bring the schema up to date and find the seal; the connection is closed if that can't be done."""
    try:
        _migrate(connection)
        sample = connection.execute(_SEALED).fetchone()
        return Seal.open(path.with_name("key"), sample and str(sample[0]))
    except BaseException:
        connection.close()
        raise


_SEALED = """
SELECT value FROM secrets
UNION ALL SELECT password FROM registries
UNION ALL SELECT secrets FROM revisions WHERE secrets IS NOT NULL
LIMIT 1
"""


def _migrate(connection: sqlite3.Connection) -> None:
    """All steps are one commit: a file is of the one version or of the other, whenever the power fails."""
    version = int(_pragma(connection, "user_version"))
    steps = [_sql(f"migrate_{number}.sql") for number in range(version + 1, SCHEMA_VERSION + 1)]
    if steps:
        script = f"BEGIN IMMEDIATE; {''.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        connection.executescript(script)


def _attach(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def _pragma(connection: sqlite3.Connection, name: str) -> int | str:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return value if isinstance(value, int) else str(value)


_REASONS = {
    "SQLITE_BUSY": ("it is locked by another process", "end the process that holds it"),
    "SQLITE_FULL": ("the disk is full", "make room; hale goes on by itself"),
    "SQLITE_NOTADB": ("it is not a database, or it is damaged", MOVE_AWAY),
    "SQLITE_CORRUPT": ("it is damaged", MOVE_AWAY),
    "SQLITE_CANTOPEN": ("the file or its folder cannot be opened", "check the permissions of the folder"),
    "SQLITE_READONLY": ("it cannot be written", "check the permissions of the file and its folder"),
    "SQLITE_IOERR": ("the disk answers with an error", "check the disk and the system's log"),
}


def _explain(error: Exception) -> tuple[str, str]:
    if isinstance(error, sqlite3.Error):
        # Extended names go on: SQLITE_IOERR_WRITE, SQLITE_BUSY_SNAPSHOT.
        name = "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])
        return _REASONS.get(name, (str(error), ""))
    if isinstance(error, FileNotFoundError):
        return "its folder does not exist", "make the folder, or choose another with --data"
    if isinstance(error, PermissionError):
        return "no permission", "check who owns the file and its folder"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower(), ""
    return str(error), ""
