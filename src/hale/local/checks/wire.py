"""The sockets of all checks: one epoll inside the loop's own, and deadlines that cost next to nothing.

A transport, a task or a timer per check would each cost as much as all the rest of our work on it.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from typing import Protocol

Handler = Callable[[int], None]

READABLE = select.EPOLLIN | select.EPOLLRDHUP
WRITABLE = select.EPOLLOUT
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

_AT_A_TIME = 256
_SHORTEST_WAIT = 0.0005
_RESET = struct.pack("ii", 1, 0)
_DRAINED_PART = 64 * 1024
_DRAINED_PARTS = 4
PATIENCE = 0.1
"""Seconds that we wait for what is only nice to have: the rest of a body, the server closing first."""


class Timed(Protocol):
    """What can wait in a Lane."""

    def expired(self) -> None: ...


class Lane:
    """Deadlines of one length: they fall in the order they were set, so one dict and one timer do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._due: dict[Timed, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Timed) -> float:
        """Call `member.expired()` when the time is over, which is returned (on the loop's clock)."""
        due = self._due[member] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._sweep)
        return due

    def discard(self, member: Timed) -> None:
        self._due.pop(member, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()

    def _sweep(self) -> None:
        try:
            while self._due:
                member, due = next(iter(self._due.items()))
                if due - self._loop.time() > _SHORTEST_WAIT:
                    return
                del self._due[member]
                member.expired()
        finally:
            # Whatever a member raised, those after it have their deadlines.
            first = next(iter(self._due.values()), None)
            self._timer = None if first is None else self._loop.call_at(first, self._sweep)


class _Leaving:
    """A connection that is done with, until the server closes it or our patience is over."""

    def __init__(self, wire: "Wire", sock: socket.SocketType) -> None:
        self._wire = wire
        self._sock = sock
        self._parts = _DRAINED_PARTS
        wire.patience.add(self)
        wire.watch(sock, READABLE, self._happened)

    def _happened(self, events: int) -> None:
        self._parts -= 1
        if events & ENDED or not self._parts or not self._drained():
            self._wire.patience.discard(self)
            self.expired()

    def _drained(self) -> bool:
        try:
            return bool(self._sock.recv(_DRAINED_PART))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def expired(self) -> None:
        self._wire.close_socket(self._sock)


class Wire:
    """Watches sockets for checks. One of it per loop; `close` ends everything on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = False
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[socket.SocketType, Handler]] = {}
        self._fresh: set[int] = set()
        self._lanes: dict[float, Lane] = {}
        self.patience = self.lane(PATIENCE)
        loop.add_reader(self._epoll.fileno(), self._ready)

    def lane(self, seconds: float) -> Lane:
        """The lane for deadlines of this length."""
        lane = self._lanes.get(seconds)
        if lane is None:
            lane = self._lanes[seconds] = Lane(self.loop, seconds)
        return lane

    def watch(self, sock: socket.SocketType, events: int, handler: Handler) -> None:
        """Call `handler` with what happened, again and again, until something else is watched for."""
        fd = sock.fileno()
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._fresh.add(fd)
        self._watched[fd] = sock, handler

    def unwatch(self, sock: socket.SocketType) -> None:
        """Hear no more of a socket that stays open."""
        if self._watched.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def close_socket(self, sock: socket.SocketType, *, reset: bool = True) -> None:
        """Close it; with `reset` neither side is left in TIME_WAIT, and what is still sent is refused."""
        if sock.fileno() < 0:
            return
        # The kernel stops watching with the last copy of a socket, and no child of ours keeps one: files are
        # closed on exec, and until then whoever started it is held up.
        self._watched.pop(sock.fileno(), None)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()

    def leave_socket(self, sock: socket.SocketType) -> None:
        """Let the other side close first, for a moment: a server that is done never sees a reset."""
        _Leaving(self, sock)

    def close(self) -> None:
        self.closed = True
        for lane in self._lanes.values():
            lane.close()
        for sock, _ in list(self._watched.values()):
            self.close_socket(sock)
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        happened = self._epoll.poll(0, _AT_A_TIME)
        fresh = self._fresh
        fresh.clear()
        for fd, events in happened:
            # A socket opened within this turn may have the number of one that was closed in it.
            if fd not in fresh and (watched := self._watched.get(fd)) is not None:
                watched[1](events)
