"""What is written about attempts, and read again after a restart of the daemon or of the machine."""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hale.local.engines import strays
from hale.local.engines.environment import MARK
from hale.local.engines.keeper import EXIT, LAUNCH

KEPT = 5
"""Attempts of a replica whose logs are kept, the newest among them."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Pids mean nothing after the machine was started anew."""
    return _BOOT.read_text().strip()


@dataclass(frozen=True, slots=True)
class Record:
    """One attempt as it was started: `ticks` and `boot` make its pid unmistakable.

    `keeper` is the pid of its parent, the only one who can tell how it ended.
    """

    replica_id: str
    attempt: int
    started_at: float
    ports: Mapping[int, int]
    env: Mapping[str, str]
    cwd: str
    boot: str
    notes: tuple[str, ...] = ()
    pid: int = 0
    ticks: int = 0
    keeper: int = 0

    def written(self, *, private: Collection[str]) -> dict[str, object]:
        """Without the values of private variables, which may be secrets: the process itself has them."""
        env = {name: value for name, value in self.env.items() if name not in private}
        return asdict(self) | {"env": env}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> "Record":
        """What another version of hale has written beside is left aside."""
        known = {field.name: written[field.name] for field in fields(cls)}
        known["ports"] = {int(declared): actual for declared, actual in known["ports"].items()}
        return cls(**known | {"notes": tuple(known["notes"])})


@dataclass(frozen=True, slots=True)
class Ending:
    at: float
    code: int | None


class Records:
    """The folder of all replicas: `<replica>/<attempt>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def attempt(self, replica_id: str, attempt: int) -> Path:
        return self.folder / replica_id / str(attempt)

    def prepare(self, replica_id: str, attempt: int) -> Path:
        """Make room for a new attempt, and drop the oldest."""
        path = self.attempt(replica_id, attempt)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in self.attempts(replica_id)[:-KEPT]:
            shutil.rmtree(self.attempt(replica_id, old), ignore_errors=True)
        return path

    def attempts(self, replica_id: str) -> list[int]:
        with suppress(FileNotFoundError):
            return sorted(
                int(path.name) for path in (self.folder / replica_id).iterdir() if path.name.isdigit()
            )
        return []

    def newest(self) -> Iterator[Record]:
        """The newest attempt of each replica that was ever started."""
        for folder in sorted(self.folder.iterdir()):
            for attempt in reversed(self.attempts(folder.name) if folder.is_dir() else []):
                record = self._record(folder / str(attempt))
                if record is not None:
                    yield record
                    break

    def running(self) -> Iterator[Record]:
        """Those of the newest whose process lives, whether anybody looks after it or not."""
        boot = boot_id()
        for record in self.newest() if self.folder.is_dir() else ():
            ours = record.boot == boot and strays.ticks(record.pid) == record.ticks
            if ours and strays.living(record.pid):
                yield record

    def ending(self, replica_id: str, attempt: int) -> Ending | None:
        """How it ended, if the keeper wrote it down."""
        known = _read(self.attempt(replica_id, attempt) / EXIT)
        return Ending(float(known["at"]), known["code"]) if known else None

    def remove(self, replica_id: str) -> None:
        shutil.rmtree(self.folder / replica_id, ignore_errors=True)

    def _record(self, path: Path) -> Record | None:
        written = _read(path / LAUNCH)
        try:
            return _whole(Record.read(written), path) if written else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def _whole(record: Record, path: Path) -> Record:
    """With the private variables, as the process was started with them, if it still runs."""
    return replace(record, env={**_environment(record.pid), **record.env, MARK: str(path)})


def _environment(pid: int) -> dict[str, str]:
    try:
        text = os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes())
    except OSError:
        return {}
    pairs = (each.partition("=") for each in text.split("\0"))
    return {name: value for name, mark, value in pairs if name and mark}


def _read(path: Path) -> dict[str, Any] | None:
    """None for what is not there, or was not written to its end."""
    try:
        known = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return known if isinstance(known, dict) else None
