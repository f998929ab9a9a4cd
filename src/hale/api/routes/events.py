"""/events, of one deployment or of all: a page, or a stream when `text/event-stream` is asked for."""

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from hale.api import deployments, models, views
from hale.api.context import Context, InContext
from hale.api.limits import JsonRoute
from hale.api.paging import InPages, Page, Paging, bad_cursor, page
from hale.api.stream import EventStream

router = APIRouter(tags=["events"], route_class=JsonRoute)

Accept = Annotated[str, Header()]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]


@router.get("/events", response_model=Page[models.Event], response_model_exclude_unset=True)
async def of_all(
    context: InContext, paging: InPages, accept: Accept = "", last_event_id: LastEventId = None
) -> Page[models.Event] | Response:
    """What happened to every deployment, and to hale itself."""
    return await _events(context, None, paging, accept, last_event_id)


@router.get(
    "/deployments/{deployment_id}/events",
    response_model=Page[models.Event],
    response_model_exclude_unset=True,
)
async def of_one(
    context: InContext,
    deployment_id: str,
    paging: InPages,
    accept: Accept = "",
    last_event_id: LastEventId = None,
) -> Page[models.Event] | Response:
    """What happened to the deployment, each with its cause."""
    deployment = await deployments.find(context, deployment_id)
    return await _events(context, deployment.id, paging, accept, last_event_id)


async def _events(
    context: Context, deployment_id: str | None, paging: Paging, accept: str, last_event_id: str | None
) -> Page[models.Event] | Response:
    if "text/event-stream" in accept:
        after = _event_id(last_event_id or paging.after) or 0
        return EventStream(context.platform.follow(deployment_id, after=after), context.closing)
    return await _event_page(context, deployment_id, paging)


async def _event_page(context: Context, deployment_id: str | None, paging: Paging) -> Page[models.Event]:
    place = _event_id(paging.after)
    found = await context.store.events(
        deployment_id,
        after=0 if paging.descending else place or 0,
        before=place if paging.descending else None,
        limit=paging.limit + 1,
        newest_first=paging.descending,
    )
    shown = found[: paging.limit]
    following = str(shown[-1].id) if len(found) > len(shown) else None
    return page([views.event(event) for event in shown], following, paging)


def _event_id(text: str | None) -> int | None:
    if not text:
        return None
    # More digits than any id has: SQLite could not take them.
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise bad_cursor(text)
    return int(text)
