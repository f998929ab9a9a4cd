"""bare.c, for machines without a C compiler: then the limit is what Python can do."""

import resource
import select
import socket
import struct
import sys

PORT, CHECKS, AT_A_TIME = map(int, sys.argv[1:])
REQUEST = (
    f"GET /readiness/ HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nUser-Agent: hale-probe/0.1.0\r\n"
    "Accept: */*\r\nConnection: close\r\n\r\n"
).encode()
RESET = struct.pack("ii", 1, 0)
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


def begin(epoll: select.epoll, connections: dict[int, socket.socket]) -> None:
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.connect_ex(("127.0.0.1", PORT))
    connection.send(REQUEST)
    connections[connection.fileno()] = connection
    epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLRDHUP)


def main() -> None:
    epoll, left = select.epoll(), CHECKS - AT_A_TIME
    connections: dict[int, socket.socket] = {}
    for _ in range(AT_A_TIME):
        begin(epoll, connections)
    while connections:
        for fd, events in epoll.poll():
            if events & select.EPOLLIN:
                connections[fd].recv(16384)
            if events & ENDED:
                connections.pop(fd).close()
                if left > 0:
                    left -= 1
                    begin(epoll, connections)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print((used.ru_utime + used.ru_stime) * 1e6 / CHECKS)


main()
