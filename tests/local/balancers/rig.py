"""Servers, clients and a HAProxy for tests on loopback."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from typing import TypeVar

from kit.processes import end_all

from hale.clock import Clock
from hale.local.balancers.haproxy import HaproxyBalancer
from hale.ports import Server
from hale.settings import Address

T = TypeVar("T")
BINARY = Path(os.environ["HALE_TEST_HAPROXY"]) if "HALE_TEST_HAPROXY" in os.environ else None
"""To try another HAProxy than the one that hale finds."""

LOOPBACK = Address("127.0.0.1", 0)


@dataclass(slots=True)
class Request:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def named(self) -> Mapping[str, str]:
        return dict(self.headers)


async def read_head(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, [(name.lower(), value.strip()) for name, _, value in pairs]


class Place:
    """A replica: answers with its name, or as the path says.

    /hold waits for `release`, /echo tells of the request, /stream sends a chunk for each `release`,
    /drop closes the connection instead of an answer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.requests: list[Request] = []
        self.release = asyncio.Semaphore(0)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """As a killed process does: no more listening, and every connection reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._connections):
            writer.transport.abort()
        await asyncio.sleep(0)

    def server(self, *, ready: bool = True) -> Server:
        return Server(self.name, "127.0.0.1", self.port, ready)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                request = await self._receive(reader)
                self.requests.append(request)
                await self._answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _receive(self, reader: asyncio.StreamReader) -> Request:
        first, headers = await read_head(reader)
        length = int(dict(headers).get("content-length", "0"))
        method, path, _ = first.split(" ", 2)
        return Request(method, path, headers, await reader.readexactly(length))

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        match request.path:
            case "/drop":
                raise ConnectionResetError
            case "/hold":
                await self.release.acquire()
            case "/stream":
                await self._stream(writer)
                return
        told = {"headers": request.headers, "method": request.method, "body": request.body.decode()}
        body = json.dumps(told) if request.path == "/echo" else self.name
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            await self.release.acquire()
            writer.write(b"9\r\ndata: %d\n\n\r\n" % number)
            await writer.drain()
        writer.write(b"0\r\n\r\n")


class Client:
    """One HTTP/1.1 connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: Address) -> "Client":
        return cls(*await asyncio.open_connection(address.host, address.port))

    def send(
        self,
        path: str = "/",
        *,
        host: str = "web.localhost",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def receive(self) -> Answer:
        first, headers = await read_head(self.reader)
        length = int(dict(headers).get("content-length", "0"))
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def ask(self, path: str = "/", **options: object) -> Answer:
        self.send(path, **options)  # type: ignore[arg-type]
        return await self.receive()

    def close(self) -> None:
        self.writer.close()


def basic(password: str, *, user: str = "paperspace", scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@dataclass(slots=True)
class HeldRequest:
    server_id: str
    place: Place
    client: Client

    async def finish(self) -> int:
        self.place.release.release()
        return (await self.client.receive()).status


@dataclass(slots=True)
class Rig:
    """A balancer with places behind it; everything is gone when the rig closes."""

    folder: Path
    balancer: HaproxyBalancer
    places: dict[str, Place] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)

    async def place(self, name: str) -> Place:
        place = self.places[name] = Place(name)
        await place.open()
        return place

    async def client(self) -> Client:
        client = await Client.open(self.balancer.address)
        self.clients.append(client)
        return client

    async def ask(self, path: str = "/", **options: object) -> Answer:
        """On a connection of its own."""
        client = await self.client()
        answer = await client.ask(path, **options)
        client.close()
        return answer

    async def hold(self, *, host: str = "web.localhost", client: Client | None = None) -> HeldRequest:
        before = {name: len(place.requests) for name, place in self.places.items()}
        client = client or await self.client()
        client.send("/hold", host=host)

        def arrived() -> Place | None:
            return next((p for name, p in self.places.items() if len(p.requests) > before[name]), None)

        place = await eventually(arrived)
        return HeldRequest(place.name, place, client)

    async def under_way(self, server_id: str) -> int:
        return (await self.balancer.in_flight()).get(server_id, 0)

    async def idle(self, server_id: str) -> bool:
        return not await self.under_way(server_id)

    # --- the Traffic of the conformance suite ---

    async def server(self, server_id: str, *, ready: bool = True) -> Server:
        return (await self.place(server_id)).server(ready=ready)

    async def get(self, host: str, *, password: str | None = None) -> tuple[int, str]:
        answer = await self.ask(host=host, headers=basic(password) if password is not None else None)
        return answer.status, answer.text if answer.status == 200 else ""

    async def begin(self, host: str) -> HeldRequest:
        return await self.hold(host=host)

    async def close(self) -> None:
        for client in self.clients:
            client.close()
        for place in self.places.values():
            await place.close()


async def eventually(
    condition: Callable[[], T | Awaitable[T]], *, within: float = 60, every: float = 0.005
) -> T:
    """The first true answer."""
    async with asyncio.timeout(within):
        while True:
            answer = condition()
            found = await answer if isawaitable(answer) else answer
            if found:
                return found
            await asyncio.sleep(every)


@asynccontextmanager
async def rig(folder: Path, *, stock: int = 8, bind: Address = LOOPBACK) -> AsyncIterator[Rig]:
    """Ends whatever works in the folder, also when the test failed."""
    try:
        async with AsyncExitStack() as stack:
            balancer = HaproxyBalancer(folder, bind, Clock.start(), binary=BINARY, stock=stock)
            built = Rig(folder, await stack.enter_async_context(balancer))
            stack.push_async_callback(built.close)
            stack.push_async_callback(balancer.stop)
            yield built
    finally:
        end_all(folder)
