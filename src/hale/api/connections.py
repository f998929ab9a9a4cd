"""Connections of the API's server: bounded in number and in patience, so that checks always find a socket."""

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hale.api.errors import error_response

_MOST_FILES = 65_536
"""More open files than this are not asked for: some programs that are started look at each."""

_MOST_CONNECTIONS = 4_096
"""Each may hold 64 KiB of headers that are not whole yet."""


def allow_many_files() -> None:
    """Raise the soft limit on open files, often 1,024, as far as it may go: each check takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class BoundedConnection(H11Protocol):
    """uvicorn's connection, which waits for ever for the end of a request's headers.

    One that waits so at two looks, `patience` seconds from each other, is closed.
    """

    patience = 30.0
    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self.most():
            transport.abort()
        else:
            self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in the one shape of errors, too."""
        refusal = error_response(
            "BAD_REQUEST",
            "cannot read the request: it is not HTTP, or its headers are larger than 64 KiB",
            headers={"Connection": "close"},
        )
        answer = (
            h11.Response(status_code=400, headers=refusal.raw_headers, reason=b"Bad Request"),
            h11.Data(data=bytes(refusal.body)),
            h11.EndOfMessage(),
        )
        for event in answer:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @staticmethod
    def most() -> int:
        """Connections at a time: they leave half of the files to the checks."""
        return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, _MOST_CONNECTIONS)

    def _look_again(self) -> None:
        self._looking = self.loop.call_later(self.patience, self._look, self.cycle)

    def _look(self, before: Any) -> None:  # Any: uvicorn does not name what a request becomes
        if self.cycle is before and (before is None or before.response_complete):
            self.transport.close()
        else:
            self._look_again()
