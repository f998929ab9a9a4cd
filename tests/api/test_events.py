"""Events as pages, and as a stream that can be taken up again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message

from hale.api.app import end_streams
from hale.api.stream import HEARTBEAT
from hale.core.event import Event, Level, Link
from hale.errors import StoreError
from tests.api.conftest import EPOCH, TOKEN, Api


class Reader:
    """Reads a stream as a browser would, straight from the application."""

    def __init__(self) -> None:
        self.start: Message = {}
        self.chunks: asyncio.Queue[Message] = asyncio.Queue()
        self.leaving = asyncio.Event()

    async def text(self) -> str:
        return (await self.chunks.get())["body"].decode()

    async def event(self) -> tuple[str, Any]:
        """The id and the data of the next event; comments are passed over."""
        while (text := await self.text()).startswith(":"):
            pass
        event_id, data = text.removesuffix("\n\n").split("\n")
        return event_id.removeprefix("id: "), json.loads(data.removeprefix("data: "))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            await self.chunks.put(message)

    async def receive(self) -> Message:
        await self.leaving.wait()
        return {"type": "http.disconnect"}


@asynccontextmanager
async def reading(api: Api, path: str, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    reader = Reader()
    sent = {"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}", **headers}
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
    }
    async with asyncio.TaskGroup() as group:
        task = group.create_task(api.app(scope, reader.receive, reader.send))
        yield reader
        reader.leaving.set()
        await task


async def told(api: Api, deployment_id: str | None, *messages: str) -> None:
    await api.store.append([Event(EPOCH, "replica.x", message, deployment_id) for message in messages])
    api.platform.wake(deployment_id or "")


async def empty(api: Api) -> str:
    """A deployment whose events begin with those of the test."""
    deployment_id = await api.apply()
    api.store._events.clear()
    return deployment_id


async def test_an_event_has_all_its_fields(api: Api) -> None:
    deployment_id = await empty(api)
    cause = (Link("check", EPOCH + 0.5, "readiness failed"),)
    (event,) = await api.store.append(
        [
            Event(
                EPOCH, "replica.unready", "left traffic", deployment_id, 2, "r1", 3, Level.WARNING, "x", cause
            )
        ]
    )
    assert await api.get(f"/v1/deployments/{deployment_id}/events") == {
        "items": [
            {
                "id": event.id,
                "at": "2023-11-14T22:13:20.000Z",
                "type": "replica.unready",
                "level": "warning",
                "message": "left traffic",
                "deploymentId": deployment_id,
                "revision": 2,
                "replicaId": "r1",
                "attempt": 3,
                "cause": [{"kind": "check", "at": "2023-11-14T22:13:20.500Z", "message": "readiness failed"}],
            }
        ],
        "hasMore": False,
    }


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_events_come_in_pages(api: Api, order: str) -> None:
    deployment_id = await empty(api)
    await told(api, deployment_id, *"abcde")
    path, query, found = f"/v1/deployments/{deployment_id}/events", {"limit": "2", "order": order}, []
    while True:
        page = await api.get(path, **query)
        found += [item["message"] for item in page["items"]]
        if not page["hasMore"]:
            break
        query["after"] = page["nextPage"]
    assert found == sorted("abcde", reverse=order == "desc")


async def test_events_of_all_are_those_of_every_deployment_and_of_hale(api: Api) -> None:
    deployment_id = await empty(api)
    await told(api, deployment_id, "of one")
    await told(api, None, "of hale")
    page = await api.get("/v1/events", order="asc")
    assert [(item["message"], item["deploymentId"]) for item in page["items"]] == [
        ("of one", deployment_id), ("of hale", None),
    ]  # fmt: skip


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30, "\N{SUPERSCRIPT TWO}"])
async def test_a_wrong_cursor_is_refused(api: Api, after: str) -> None:
    assert (await api.refused("GET", "/v1/events", after=after)).code == "BAD_REQUEST"


# --- streams --------------------------------------------------------------------------------------


async def test_a_stream_tells_what_was_and_then_what_comes(api: Api) -> None:
    deployment_id = await empty(api)
    await told(api, deployment_id, "before")
    async with reading(api, f"/v1/deployments/{deployment_id}/events") as reader:
        first_id, first = await reader.event()
        await told(api, "other", "elsewhere")
        await told(api, deployment_id, "live")
        _, second = await reader.event()
    headers = dict(reader.start["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in headers
    assert (first["message"], second["message"]) == ("before", "live")
    assert first_id == str(first["id"])


async def test_a_stream_is_taken_up_after_the_last_event_id(api: Api) -> None:
    await empty(api)
    await told(api, None, *"abc")
    ids = [event.id for event in await api.store.events()]
    async with reading(api, "/v1/events", f"after={ids[1]}") as reader:
        assert (await reader.event())[1]["message"] == "c"
    # What the browser saw last is newer than what its address says.
    async with reading(api, "/v1/events", f"after={ids[0]}", last_event_id=str(ids[1])) as reader:
        assert (await reader.event())[1]["message"] == "c"


async def test_a_silent_stream_sends_comments(api: Api) -> None:
    await empty(api)
    loop = asyncio.get_running_loop()
    async with reading(api, "/v1/events") as reader:
        assert await reader.text() == ": hale\n\n"
        began = loop.time()
        assert await reader.text() == ": hale\n\n"
        assert loop.time() - began == HEARTBEAT


async def test_a_stream_ends_when_its_deployment_is_gone(api: Api) -> None:
    deployment_id = await empty(api)
    async with reading(api, f"/v1/deployments/{deployment_id}/events") as reader:
        await reader.text()
        await api.delete(f"/v1/deployments/{deployment_id}")
        assert (await reader.event())[1]["type"] == "deployment.deleted"
        await api.store.delete_deployment(deployment_id)
        api.platform.wake(deployment_id)
        while (last := await reader.chunks.get())["more_body"]:
            pass
    assert last["body"] == b""


async def test_a_reader_that_left_leaves_nothing_running(api: Api) -> None:
    before = asyncio.all_tasks()
    async with reading(api, "/v1/events") as reader:
        await reader.text()
    assert asyncio.all_tasks() == before


async def test_streams_end_when_the_server_shuts_down(api: Api) -> None:
    await empty(api)
    async with reading(api, "/v1/events") as reader:
        await reader.text()
        end_streams(api.app)
        assert await reader.text() == ""


async def test_a_stream_that_can_not_go_on_says_why_and_ends(api: Api) -> None:
    async def damaged(*_: object, **__: object) -> list[Event]:
        raise StoreError("cannot read the database: it is damaged")

    api.store.events = damaged  # type: ignore[method-assign]
    async with reading(api, "/v1/events") as reader:
        texts = [await reader.text() for _ in range(3)]
    assert sorted(texts) == ["", ": cannot read the database: it is damaged\n\n", ": hale\n\n"]


async def test_many_readers_see_the_same(api: Api) -> None:
    await empty(api)
    async with reading(api, "/v1/events") as one, reading(api, "/v1/events") as two:
        await told(api, None, "x")
        assert await one.event() == await two.event()


async def test_a_stream_of_what_does_not_exist_is_an_ordinary_error(api: Api) -> None:
    answer = await api.client.get("/v1/deployments/nobody/events", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_text_in_events_can_not_break_the_stream(api: Api) -> None:
    await empty(api)
    await told(api, None, 'a\n\nid: 7\ndata: "x"\r\n\N{LINE SEPARATOR}')
    async with reading(api, "/v1/events") as reader:
        _, data = await reader.event()
    assert data["message"] == 'a\n\nid: 7\ndata: "x"\r\n\N{LINE SEPARATOR}'
