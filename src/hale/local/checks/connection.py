"""One request over a fresh connection: dial the places in turn, TLS if need be, send, hand on the answer."""

import errno
import os
import socket
import ssl
from functools import lru_cache
from typing import Protocol

from hale.local.checks.names import Place, Places
from hale.local.checks.wire import ENDED, READABLE, WRITABLE, Wire

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_PART = 16 * 1024
_OWN_TROUBLE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL}
)


class Owner(Protocol):
    """Who asked. Called on the loop, never from within `Connection.begin`."""

    def arrived(self, part: bytes, *, ended: bool) -> None:
        """The next bytes of the answer; `ended` says that they are the last."""

    def lost(self, error: OSError) -> None:
        """There is no connection (any more)."""


class Connection:
    """Sends `request` to the first of `places` that takes it; with `tls_name` over TLS."""

    __slots__ = ("_owner", "_places", "_request", "_sock", "_tls", "_tls_name", "_unsent", "_wire", "ended")

    def __init__(
        self, wire: Wire, owner: Owner, places: Places, request: bytes, tls_name: str | None
    ) -> None:
        self._wire = wire
        self._owner = owner
        self._places = places
        self._request = request
        self._tls_name = tls_name
        self._sock: socket.SocketType
        self._tls: ssl.SSLSocket
        self._unsent = request
        self.ended = False

    @property
    def asked(self) -> bool:
        """Whether the request has been sent."""
        return not self._unsent

    def begin(self) -> OSError | None:
        """Dial; the error if it is certain at once that nobody can be reached."""
        place, self._places = self._places[0], self._places[1:]
        self._unsent = self._request
        try:
            self._sock = dial(place)
        except OSError as error:
            return self.begin() if self._places else error
        try:
            if self._tls_name is None:
                self._send()
            else:
                self._wire.watch(self._sock, WRITABLE, self._connected)
        except OSError as error:
            return self._next(error)
        return None

    def close(self) -> None:
        """Break it off."""
        self._wire.close_socket(self._sock)

    def leave(self) -> None:
        """End it as politely as can be: the answer is here, what may follow is not wanted."""
        if self.ended or self._tls_name is not None:
            self.close()
        else:
            self._wire.leave_socket(self._sock)

    def _next(self, error: OSError) -> OSError | None:
        self.close()
        return self.begin() if self._places else error

    def _fail(self, error: OSError) -> None:
        if (final := self._next(error)) is not None:
            self._owner.lost(final)

    def _send(self) -> None:
        """Send without waiting to be connected: on this machine we are already."""
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._wire.watch(self._sock, WRITABLE, self._writable)
        else:
            self._wire.watch(self._sock, READABLE, self._readable)

    def _writable(self, _events: int) -> None:
        try:
            self._send()
        except OSError as error:
            self._fail(error)

    def _connected(self, _events: int) -> None:
        try:
            raise_pending(self._sock)
            self._wire.unwatch(self._sock)
            self._sock = plain = socket.socket(fileno=self._sock.detach())
            plain.setblocking(False)  # noqa: FBT003
            self._sock = self._tls = _tls().wrap_socket(
                plain, do_handshake_on_connect=False, server_hostname=self._tls_name
            )
        except OSError as error:
            self._fail(error)
        else:
            self._shake(0)

    def _shake(self, _events: int) -> None:
        try:
            self._tls.do_handshake()
            self._send()
        except ssl.SSLWantReadError:
            self._wire.watch(self._sock, READABLE, self._shake)
        except ssl.SSLWantWriteError:
            self._wire.watch(self._sock, WRITABLE, self._shake)
        except OSError as error:
            self._fail(error)

    def _readable(self, events: int) -> None:
        try:
            part = self._sock.recv(_PART)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.close()
            self._owner.lost(error)
            return
        # An end, and less than there was room for: then nothing is left to be read.
        self.ended = not part or (events & ENDED != 0 and len(part) < _PART and self._tls_name is None)
        self._owner.arrived(part, ended=self.ended)


def dial(place: Place) -> socket.SocketType:
    """A socket on its way to the place, or there already; OSError if that can't be.

    It is of the type beneath `socket.socket`, which adds files and inheritance, for no use and at some cost.
    """
    sock = socket.SocketType(place.family, _STREAM)
    code = sock.connect_ex(place.address)
    if code and code != errno.EINPROGRESS:
        sock.close()
        raise OSError(code, os.strerror(code))
    return sock


def raise_pending(sock: socket.SocketType) -> None:
    """Raise what became of the attempt to connect, if it failed."""
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))
    if sock.getsockname() == sock.getpeername():
        # Nobody listens, and of all free ports the kernel gave us the one that we dialled.
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def words(error: OSError) -> str:
    """`connection refused`, `no route to host`."""
    if isinstance(error, ssl.SSLError):
        return f"cannot speak TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return (error.strerror or str(error)).lower()


def own_trouble(error: OSError) -> bool:
    """Whether it says nothing about who was dialled: this process or machine has run out of something."""
    return error.errno in _OWN_TROUBLE and not isinstance(error, ssl.SSLError)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Any certificate is taken: a check has no name to compare it with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
