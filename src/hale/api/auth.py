"""Bearer tokens: before anything is read or looked up, so that nothing is for a stranger."""

import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hale.api.errors import error_response

OPEN_PATH = "/v1/health"
"""The one path that wants no token."""


class BearerAuth:
    """Answers 401 unless the request carries the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] == OPEN_PATH or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = error_response(
            "UNAUTHORIZED",
            "cannot let you in: the request has no valid token (hint: send the content of the file `token`"
            " in hale's data folder as Authorization: Bearer <token>)",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await refusal(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode("latin-1")  # the bytes as they came
        return scheme.lower() == "bearer" and secrets.compare_digest(given, self._token)
