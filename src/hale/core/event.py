"""What happened, to whom, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    NORMAL = "normal"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a cause: what happened (`kind`: check, stop, exit, back-off, start, ...) and when."""

    kind: str
    at: float
    message: str


Cause = tuple[Link, ...]
"""From the first thing that went wrong to the last consequence."""


@dataclass(frozen=True, slots=True)
class Event:
    """A durable fact for the operator.

    `type` is stable and for machines (`replica.ready`, `check.failed`, ...); `message` is for people.
    `state` is the Gradient instance state that the replica has from here on, where it changed.
    `id` is given by the Store: rising, 0 before that.
    """

    at: float
    type: str
    message: str
    deployment_id: str | None = None
    revision: int | None = None
    replica_id: str | None = None
    attempt: int | None = None
    level: Level = Level.NORMAL
    state: str = ""
    cause: Cause = ()
    id: int = 0
