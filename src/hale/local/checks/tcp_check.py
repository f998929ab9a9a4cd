"""One TCP check: whether a connection is accepted."""

import socket

from hale.core.words import duration
from hale.local.checks.connection import dial, raise_pending
from hale.local.checks.names import Place
from hale.local.checks.reply import Reply
from hale.local.checks.wire import WRITABLE, Wire


class TcpCheck:
    """A connection in the making. It is closed in the ordinary way: the server waits for a request."""

    __slots__ = ("_lane", "_place", "_reply", "_sock", "_timeout", "_wire")

    def __init__(self, wire: Wire, place: Place, timeout: float, reply: Reply) -> None:
        self._wire = wire
        self._place = place
        self._timeout = timeout
        self._reply = reply
        self._sock: socket.SocketType | None = None
        self._lane = wire.lane(timeout)
        self._lane.add(self)

    def begin(self) -> None:
        """Dial; whatever comes of it is told later."""
        try:
            sock = self._sock = dial(self._place)
            self._wire.watch(sock, WRITABLE, lambda _: self._settled(sock))
        except OSError as error:
            self._wire.loop.call_soon(self._lost, error)

    def cancel(self) -> None:
        self._reply.cancel()
        self._end()

    def expired(self) -> None:
        self._end()
        self._reply.fail(f"no connection within {duration(self._timeout)}")

    def _settled(self, sock: socket.SocketType) -> None:
        try:
            raise_pending(sock)
        except OSError as error:
            self._lost(error)
        else:
            self._end()
            self._reply.give(ok=True, detail="connection accepted")

    def _lost(self, error: OSError) -> None:
        self._end()
        self._reply.unreachable(error)

    def _end(self) -> None:
        self._lane.discard(self)
        if self._sock is not None:
            self._wire.close_socket(self._sock, reset=False)
