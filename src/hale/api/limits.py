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
DRAIN_LIMIT = 32 * BODY_LIMIT
_DRAIN_SECONDS = 10.0
_TOO_LARGE = "cannot take the request: its body is larger than 1 MiB"


class BodyLimit:
    """Breaks off a body that is too large: by what it announces, else by what has come.

    The rest is still taken, within bounds, and thrown away: a client that is cut off while it sends
    sees a broken connection instead of the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        too_large = announced.isdecimal() and (len(announced) > 18 or int(announced) > BODY_LIMIT)
        received = 0

        async def limited() -> Message:
            nonlocal received
            if too_large and "expect" in headers:
                raise _refusal()  # it waits to hear whether to send at all
            message = await receive()
            received += len(message.get("body", b""))
            if too_large or received > BODY_LIMIT:
                await _drain(receive, message)
                raise _refusal()
            return message

        await self._app(scope, limited, send)


def _refusal() -> HTTPException:
    # FastAPI lets an HTTPException out of the reading of a body, and nothing else.
    return HTTPException(413, _TOO_LARGE, headers={"Connection": "close"})


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
