"""The server of the API on real sockets: what is no request, what takes too long, and too many."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from fastapi import FastAPI

from hale.api.connections import BoundedConnection
from tests.api.conftest import TOKEN, Api

pytestmark = pytest.mark.real_time

WITHIN = 20.0
"""Seconds: far more than anything here takes."""


class Impatient(BoundedConnection):
    patience = 0.1


class Few(BoundedConnection):
    @staticmethod
    def most() -> int:
        return 2


@asynccontextmanager
async def serving(app: FastAPI, kind: type[BoundedConnection] = BoundedConnection) -> AsyncIterator[int]:
    """The port that the application answers on."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=kind, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server._serve(sockets=[listener]))  # without its signal handling
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await task


async def said(port: int, request: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(WITHIN):
            return await reader.read()
    finally:
        writer.close()


def get(path: str = "/v1/projects", *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/health\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["HTTP/0.9", "TLS", "no host", "bad length"],
)
async def test_what_is_no_request_is_refused_in_the_one_shape(api: Api, request_bytes: bytes) -> None:
    async with serving(api.app) as port:
        answer = await said(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body(answer))["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v1/hea", get("/v1/health") + b"GET /v1/hea"],
    ids=["nothing", "half a request", "half a second request"],
)
async def test_a_connection_that_sends_no_whole_request_is_closed(api: Api, sent: bytes) -> None:
    async with serving(api.app, Impatient) as port:
        assert (await said(port, sent)).count(b"HEALTHY") == sent.count(b"\r\n\r\n")


async def test_a_stream_is_not_closed_by_impatience(api: Api) -> None:
    deployment = await api.apply("web")
    async with serving(api.app, Impatient) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get(f"/v1/deployments/{deployment}/events", "Accept: text/event-stream"))
        async with asyncio.timeout(WITHIN):
            await reader.readuntil(b"deployment.created")
        with suppress(TimeoutError):
            async with asyncio.timeout(10 * Impatient.patience):
                while (await reader.readline()) != b"":
                    pass
        assert not reader.at_eof()
        writer.close()


async def test_one_connection_too_many_is_closed_and_the_others_go_on(api: Api) -> None:
    async with serving(api.app, Few) as port:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in kept:
            writer.write(get("/v1/health"))
            async with asyncio.timeout(WITHIN):
                await reader.readuntil(b"HEALTHY")
        with suppress(ConnectionError):
            assert await said(port, get()) == b""
        reader, writer = kept[0]
        writer.write(get("/v1/health", "Connection: close"))
        async with asyncio.timeout(WITHIN):
            assert b"HEALTHY" in await reader.read()
        for _, writer in kept:
            writer.close()


@pytest.mark.parametrize("path", ["/v1/projects", "/v1/health"])
async def test_a_body_without_end_is_cut_off_once_it_is_answered(api: Api, path: str) -> None:
    """Both answer without reading a body; nothing of one may go on coming."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    async with serving(api.app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        async with asyncio.timeout(WITHIN):
            with suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(chunk)
                    await writer.drain()
        writer.close()
