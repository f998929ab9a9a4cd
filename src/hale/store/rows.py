"""Core values to and from rows of schema.sql. Pure: no SQL is run here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Cause, Event, Level, Link
from hale.core.image import Registry
from hale.core.probe import Health, ProbeKind, Verdict
from hale.core.replica import Phase, Replica
from hale.core.secret import Secret

Row = Mapping[str, Any]
"""A row by column name; SQLite knows its types at run time only."""

Code = Callable[[str], str]
"""Seals a text, or reads a sealed one."""

PROJECT = tuple(field.name for field in fields(Project))
SECRET = tuple(field.name for field in fields(Secret))
REGISTRY = tuple(field.name for field in fields(Registry))
DEPLOYMENT = tuple(field.name for field in fields(Deployment))
REVISION = tuple(field.name for field in fields(Revision))
TEAM = ""
"""The project_id of what belongs to the team: NULLs would not be equal to each other."""
REPLICA = (*(field.name for field in fields(Replica)), "health")
EVENT = tuple(field.name for field in fields(Event))


def values(record: object, columns: tuple[str, ...]) -> dict[str, Any]:
    """The record's fields as they are, by column."""
    return {column: getattr(record, column) for column in columns}


def secret_row(secret: Secret, seal: Code) -> dict[str, Any]:
    sealed = {"value": seal(secret.value), "project_id": secret.project_id or TEAM}
    return values(secret, SECRET) | sealed


def secret(row: Row, unseal: Code) -> Secret:
    return Secret(**{**row, "value": unseal(row["value"]), "project_id": row["project_id"] or None})


def registry_row(registry: Registry, seal: Code) -> dict[str, Any]:
    return values(registry, REGISTRY) | {"password": seal(registry.password)}


def registry(row: Row, unseal: Code) -> Registry:
    return Registry(**{**row, "password": unseal(row["password"])})


def revision_row(revision: Revision, seal: Code) -> dict[str, Any]:
    secrets = [[getattr(secret, name) for name in SECRET] for secret in revision.secrets]
    return values(revision, REVISION) | {
        "metadata": _dumps(dict(revision.metadata)),
        "secrets": seal(_dumps(secrets)) if secrets else None,
    }


def revision(row: Row, unseal: Code) -> Revision:
    sealed = row["secrets"]
    secrets = [] if sealed is None else json.loads(unseal(sealed))
    return Revision(
        **{
            **row,
            "metadata": json.loads(row["metadata"]),
            "secrets": tuple(Secret(**dict(zip(SECRET, each, strict=True))) for each in secrets),
        }
    )


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
