"""What is remembered of containers on disk: for when hale starts and their engine does not answer."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from hale.local.engines.records import Records, boot_id
from hale.ports import Instance

FILE = "container.json"


@dataclass(frozen=True, slots=True)
class Known:
    """One attempt as its engine told of it last. Nothing runs on when the machine is started anew: `boot`."""

    container: str
    stop_signal: str
    instance: Instance
    boot: str

    @property
    def running(self) -> bool:
        """As far as can be said without the engine."""
        return self.instance.running and self.boot == boot_id()

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> "Known":
        """What another version of hale has written beside is left aside."""
        names = {each.name for each in fields(Instance)}
        told = {name: value for name, value in written["instance"].items() if name in names}
        ports = {int(declared): int(actual) for declared, actual in told["ports"].items()}
        instance = Instance(**told | {"ports": ports, "notes": tuple(told["notes"])})
        return cls(str(written["container"]), str(written["stop_signal"]), instance, str(written["boot"]))


def remember(records: Records, known: Known) -> None:
    """Blocking. One that was removed meanwhile is not made again."""
    folder = records.attempt(known.instance.replica_id, known.instance.attempt)
    part = folder / f"{FILE}.part"
    with suppress(FileNotFoundError):
        part.write_text(json.dumps(asdict(known)))
        part.replace(folder / FILE)


def remembered(records: Records) -> Iterator[Known]:
    """Blocking. The newest attempt of each replica, unless it never came to run."""
    with suppress(FileNotFoundError):
        for folder in sorted(records.folder.iterdir()):
            for attempt in records.attempts(folder.name)[-1:] if folder.is_dir() else ():
                with suppress(FileNotFoundError, KeyError, TypeError, ValueError, AttributeError):
                    yield Known.read(json.loads((folder / str(attempt) / FILE).read_bytes()))
