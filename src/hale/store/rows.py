"""Core values to and from rows of schema.sql. Pure: no SQL is run here."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Cause, Event, Level, Link
from hale.core.probe import Health, ProbeKind, Verdict
from hale.core.replica import Phase, Replica

Row = Mapping[str, Any]
"""A row by column name; SQLite knows its types at run time only."""

PROJECT = tuple(field.name for field in fields(Project))
DEPLOYMENT = tuple(field.name for field in fields(Deployment))
REVISION = tuple(field.name for field in fields(Revision))
REPLICA = (*(field.name for field in fields(Replica)), "health")
EVENT = tuple(field.name for field in fields(Event))


def values(record: object, columns: tuple[str, ...]) -> dict[str, Any]:
    """The record's fields as they are, by column."""
    return {column: getattr(record, column) for column in columns}


def revision_row(revision: Revision) -> dict[str, Any]:
    return values(revision, REVISION) | {"metadata": _dumps(dict(revision.metadata))}


def revision(row: Row) -> Revision:
    return Revision(**{**row, "metadata": json.loads(row["metadata"])})


def replica_row(replica: Replica, health: Mapping[ProbeKind, Health]) -> dict[str, Any]:
    """The replica with its verdicts and streaks; results are not kept."""
    return values(replica, REPLICA[:-1]) | {
        "phase": replica.phase.value,
        "retired": int(replica.retired),
        "cause": _cause_text(replica.cause),
        "health": _dumps({kind.value: [h.verdict.value, h.streak, h.ok] for kind, h in health.items()}),
    }


def replica(row: Row) -> tuple[Replica, dict[ProbeKind, Health]]:
    plain = {
        **row,
        "phase": Phase(row["phase"]),
        "retired": bool(row["retired"]),
        "cause": _cause(row["cause"]),
    }
    health = json.loads(plain.pop("health")).items()
    known = {ProbeKind(kind): Health(Verdict(verdict), streak, ok) for kind, (verdict, streak, ok) in health}
    return Replica(**plain), known


def event_row(event: Event) -> dict[str, Any]:
    """The event without its id, which the database gives."""
    return values(event, EVENT) | {"id": None, "level": event.level.value, "cause": _cause_text(event.cause)}


def event(row: Row) -> Event:
    return Event(**{**row, "level": Level(row["level"]), "cause": _cause(row["cause"])})


def _cause_text(cause: Cause) -> str:
    return _dumps([[link.kind, link.at, link.message] for link in cause])


def _cause(text: str) -> Cause:
    return tuple(Link(kind, at, message) for kind, at, message in json.loads(text))


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
