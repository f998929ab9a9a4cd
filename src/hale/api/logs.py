"""Log lines of a deployment's replicas, merged. A cursor holds how far each replica was read.

The cursor is the ids of the last lines seen, one for each replica, with commas between them: a replica
that is not in it is read from its first line (or, newest first, from its last).
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence

from hale.api import models, views
from hale.api.context import Context
from hale.api.paging import Page, Paging, bad_cursor, page
from hale.core.deployment import Deployment
from hale.errors import NotFoundError
from hale.ports import LogLine

Place = tuple[int, int]
"""Attempt and position of a line."""

_FIRST: Place = (0, -1)


async def log_page(
    context: Context, deployment: Deployment, paging: Paging, instance_id: str | None
) -> Page[models.LogItem]:
    places = _places(paging.after)
    replicas = await _replica_ids(context, deployment, instance_id)
    read = _last_lines if paging.descending else _next_lines
    lines = [
        await read(context, replica_id, places.get(replica_id), paging.limit + 1) for replica_id in replicas
    ]
    merged = list(heapq.merge(*lines, key=_moment, reverse=paging.descending))
    shown = merged[: paging.limit]
    items = [views.log_item(line, deployment.id) for line in shown]
    following = _cursor(places, shown, replicas) if len(merged) > len(shown) else None
    return page(items, following, paging)


async def _replica_ids(context: Context, deployment: Deployment, instance_id: str | None) -> Sequence[str]:
    states = await context.store.replicas(deployment.id, finished=True)
    replicas = [replica.id for replica, _ in states]
    if instance_id is None:
        return replicas
    if instance_id not in replicas:
        raise NotFoundError(
            f"cannot find instance {instance_id[:100]!r}: {deployment.name} has none of that id"
        )
    return [instance_id]


async def _next_lines(
    context: Context, replica_id: str, after: Place | None, count: int
) -> Sequence[LogLine]:
    return (await context.platform.log_lines(replica_id, after=after or _FIRST))[:count]


async def _last_lines(
    context: Context, replica_id: str, before: Place | None, count: int
) -> Sequence[LogLine]:
    """The last lines, newest first; the port reads forward, so all of them pass by."""
    last: deque[LogLine] = deque(maxlen=count)
    place = _FIRST
    while lines := await context.platform.log_lines(replica_id, after=place):
        for line in lines:
            place = (line.attempt, line.position)
            if before is not None and place >= before:
                return list(reversed(last))
            last.append(line)
    return list(reversed(last))


def _moment(line: LogLine) -> tuple[float, str, int, int]:
    return line.at, line.replica_id, line.attempt, line.position


def _cursor(places: Mapping[str, Place], shown: Sequence[LogLine], replicas: Sequence[str]) -> str:
    known = {replica_id: place for replica_id, place in places.items() if replica_id in replicas}
    known |= {line.replica_id: (line.attempt, line.position) for line in shown}
    return ",".join(f"{replica_id}.{attempt}.{position}" for replica_id, (attempt, position) in known.items())


def _places(after: str | None) -> dict[str, Place]:
    places = {}
    for each in after.split(",") if after else ():
        replica_id, attempt, position = (*each.rsplit(".", 2), "", "")[:3]
        if not (attempt.isdecimal() and position.isdecimal()):
            raise bad_cursor(after or "")
        places[replica_id] = (int(attempt), int(position))
    return places
