"""Server-sent events: what happened, then what happens, until reader, deployment or server is gone."""

import asyncio
from collections.abc import AsyncIterator, Coroutine

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hale.api import views
from hale.core.event import Event
from hale.errors import HaleError

HEARTBEAT = 15.0
"""Seconds between comments: proxies cut silent connections, and a gone reader shows when written to."""


class EventStream(Response):
    """Sends each event under its id. A reader that comes back names the last one in `Last-Event-ID`."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[Event], closing: asyncio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _first_of(self._tell(send), _beat(send), _gone(receive), self._closed())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        try:
            async for event in self._events:
                data = views.event(event).model_dump_json(by_alias=True)
                await _write(send, f"id: {event.id}\ndata: {data}\n\n")
        except HaleError as error:
            # The status is sent long since: tell a person who looks, and let the reader come back.
            await _write(send, f": {' '.join(error.message.split())}\n\n")

    async def _closed(self) -> None:
        await self._closing.wait()


async def _beat(send: Send) -> None:
    while True:
        await _write(send, ": hale\n\n")
        await asyncio.sleep(HEARTBEAT)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    """Run all until one of them has ended."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
