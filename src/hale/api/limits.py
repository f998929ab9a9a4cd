"""What a request body may be: at most 1 MiB, and JSON that can be kept and answered again."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 1024 * 1024
BODY_SECONDS = 30.0
DRAIN_LIMIT = 32 * BODY_LIMIT
_DRAIN_SECONDS = 10.0
_TOO_LARGE = "is larger than 1 MiB"
_TOO_SLOW = "did not come within 30 s"


class BodyLimit:
    """Breaks off a body that is too large, by what it announces or by what has come, or that takes too long.

    The rest of one that is too large is still taken, within bounds, and thrown away: a client that is cut
    off while it sends sees a broken connection instead of the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(Headers(scope=scope), receive, send)
        await self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    """A request's body on its way in, within bounds, and its answer on the way out."""

    def __init__(self, headers: Headers, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        announced = headers.get("content-length", "")
        self._too_large = announced.isdecimal() and (len(announced) > 18 or int(announced) > BODY_LIMIT)
        self._waits = "expect" in headers  # to hear whether to send at all
        self._bounded = "transfer-encoding" not in headers and not self._too_large
        self._whole = self._bounded and not announced
        self._received = 0
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        self._answered = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            return await self._part()
        except HTTPException:
            if self._answered:
                return {"type": "http.disconnect"}
            raise

    async def send(self, message: Message) -> None:
        """An answer to a body without bounds that nobody has read closes the connection."""
        if message["type"] == "http.response.start":
            self._answered = True
            if not (self._whole or self._bounded):
                headers = [each for each in message["headers"] if each[0] != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await self._send(message)

    async def _part(self) -> Message:
        if self._too_large and self._waits:
            raise _refusal(413, _TOO_LARGE)
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise _refusal(408, _TOO_SLOW) from None
        self._received += len(message.get("body", b""))
        if self._too_large or self._received > BODY_LIMIT:
            await _drain(self._receive, message)
            raise _refusal(413, _TOO_LARGE)
        self._whole = not message.get("more_body")
        return message


def _refusal(status: int, why: str) -> HTTPException:
    # FastAPI lets an HTTPException out of the reading of a body, and nothing else.
    return HTTPException(status, f"cannot take the request: its body {why}", headers={"Connection": "close"})


async def _drain(receive: Receive, message: Message) -> None:
    drained = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while message.get("more_body") and drained < DRAIN_LIMIT:
                message = await receive()
                drained += len(message.get("body", b""))


class JsonRoute(APIRoute):
    """A route whose body is read by `strict_json`, whatever it says it is: `curl -d` calls it a form."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            headers = [each for each in request.scope["headers"] if each[0] != b"content-type"]
            return await handle(_JsonRequest({**request.scope, "headers": headers}, request.receive))

        return strict


class _JsonRequest(Request):
    async def json(self) -> Any:  # what Request.json gives
        return strict_json(await self.body())


def strict_json(body: bytes) -> Any:  # what json.loads gives
    """The value; refused is also what Python's parser lets pass: doubled keys, NaN, lone surrogates."""
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
        # Escapes such as \ud800 stand for no character: they could not be stored or sent.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except UnicodeError as error:
        raise json.JSONDecodeError("it is not UTF-8", "", 0) from error
    except RecursionError as error:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from error
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(double)[:100]} is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:100]} is too large")
    return number
