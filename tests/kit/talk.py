"""A real server on a free loopback port that is told byte by byte how to answer."""

import asyncio
import inspect
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Talk = Callable[[Reader, Writer], Awaitable[None]]
Answer = bytes | Callable[[str], bytes] | Talk

HEAD = b"HTTP/1.1 200 OK\r\nServer: test\r\n"
"""The beginning of an answer's headers; their end is missing."""


@dataclass
class Site:
    """A server and what it was asked: whole requests as they came."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [request.split(b" ")[1].decode() for request in self.requests]

    def headers(self) -> list[tuple[str, str]]:
        """The headers of the last request, in order."""
        lines = self.requests[-1].decode().split("\r\n")[1:-2]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def header(self, name: str) -> list[str]:
        return [value for own, value in self.headers() if own == name]


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1", **options: object) -> AsyncIterator[Site]:
    """Answers each request with these bytes, or those of a function from the path, or by a coroutine."""
    site = Site()

    async def talk(reader: Reader, writer: Writer) -> None:
        try:
            site.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(answer, bytes):
                writer.write(answer)
            elif inspect.iscoroutinefunction(answer):
                await answer(reader, writer)
            else:
                writer.write(answer(site.paths[-1]))  # type: ignore[call-arg, arg-type]
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, host, 0, **options)  # type: ignore[arg-type]
    site.port = server.sockets[0].getsockname()[1]
    yield site
    server.close()


def ok(body: bytes = b"ok body", status: int = 200, *headers: bytes) -> bytes:
    """A whole answer."""
    return b"\r\n".join([b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(body), *headers, b"", body])


def to(location: str, status: int = 302) -> bytes:
    """A redirect."""
    return ok(b"", status, b"Location: " + location.encode())


async def hang(_reader: Reader, _writer: Writer) -> None:
    """Never answers."""
    await asyncio.sleep(600)


def sends(*parts: bytes) -> Talk:
    """Sends the parts and then keeps the connection open for as long as the client wants."""

    async def talk(reader: Reader, writer: Writer) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        await reader.read()

    return talk


def floods(first: bytes, rest: bytes) -> Talk:
    """Never stops sending until the connection is gone."""

    async def talk(_reader: Reader, writer: Writer) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(rest)
            await writer.drain()

    return talk


def trickles(first: bytes, part: bytes) -> Talk:
    """A few bytes now and then, until the connection is gone."""

    async def talk(_reader: Reader, writer: Writer) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(part)
            await asyncio.sleep(0.01)

    return talk


def resets(first: bytes) -> Talk:
    """Breaks the connection off after these bytes."""

    async def talk(_reader: Reader, writer: Writer) -> None:
        writer.write(first)
        await asyncio.sleep(0.05)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return talk
