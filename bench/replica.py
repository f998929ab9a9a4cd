"""A replica for benches: quick, small, and it remembers moments.

    GET /record            its record as JSON; moments are seconds of the monotonic clock, the same for all
    GET /startup /readiness /liveness    200
    GET anything else      200

Listens on $PORT; with `--after S` only after S seconds. With `--flap` it refuses every second readiness
check. In its record are the moments of `listening`, of the first check and of the first request, and for each
refused check the moment of the refusal and that of the last request until the next check passed.
"""

import json
import os
import random
import select
import socket
import sys
import time

CHECKS = (b"/liveness", b"/startup")
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
OK = JSON % (15, b'{"status":"ok"}')
UNREADY = OK.replace(b"200 OK", b"503 Service Unavailable")


class Replica:
    """All connections on one epoll; a request is answered the moment it is read."""

    def __init__(self, listener: socket.socket, *, flap: bool) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._connections: dict[int, socket.socket] = {}
        self._flap = flap
        self._checked = random.getrandbits(1)
        self._out = False
        self.listening = time.monotonic()
        self.checked = self.first = 0.0
        self.requests = 0
        self.refused: list[tuple[float, float]] = []

    def run(self) -> None:
        self._epoll.register(self._listener, select.EPOLLIN)
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._read(fd, self._connections[fd])

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[connection.fileno()] = connection
                self._epoll.register(connection, select.EPOLLIN)
        except BlockingIOError:
            return

    def _read(self, fd: int, connection: socket.socket) -> None:
        try:
            request = connection.recv(65536)
            if request:
                connection.send(self._answer(request.split(b" ", 2)[1]))
                return
        except OSError:
            pass
        del self._connections[fd]
        connection.close()

    def _answer(self, target: bytes) -> bytes:
        if target == b"/record":
            told = json.dumps({k: v for k, v in vars(self).items() if not k.startswith("_")}).encode()
            return JSON % (len(told), told)
        now = time.monotonic()
        if target == b"/readiness":
            return self._readiness(now)
        if target in CHECKS:
            self.checked = self.checked or now
            return OK
        self.requests += 1
        self.first = self.first or now
        if self._out:
            self.refused[-1] = self.refused[-1][0], now
        return OK

    def _readiness(self, now: float) -> bytes:
        self._checked += 1
        self._out = self._flap and self.requests > 0 and self._checked % 2 == 0
        if self._out:
            self.refused.append((now, now))
        return UNREADY if self._out else OK


def main() -> None:
    words = sys.argv[1:]
    if "--after" in words:
        time.sleep(float(words[words.index("--after") + 1]))
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=1024)
    listener.setblocking(False)
    Replica(listener, flap="--flap" in words).run()


main()
