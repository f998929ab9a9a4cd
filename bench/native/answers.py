"""answers.c, for machines without a C compiler."""

import select
import socket
import sys

ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 02 Nov 2025 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 15\r\n"
    b'content-type: application/json\r\nConnection: close\r\n\r\n{"status":"ok"}'
)


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    made = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(wanted)]
    listeners = {listener.fileno(): listener for listener in made}
    print(*(listener.getsockname()[1] for listener in made), flush=True)
    epoll: select.epoll = select.epoll()
    connections: dict[int, socket.socket] = {}
    for listener in made:
        listener.setblocking(False)
        epoll.register(listener, select.EPOLLIN)
    epoll.register(sys.stdin, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == sys.stdin.fileno():
                return
            if fd in listeners:
                accept(listeners[fd], epoll, connections)
            elif (connection := connections.pop(fd, None)) is not None:
                answer(connection)


def accept(listener: socket.socket, epoll: select.epoll, connections: dict[int, socket.socket]) -> None:
    try:
        while True:
            connection, _ = listener.accept()
            connections[connection.fileno()] = connection
            epoll.register(connection, select.EPOLLIN)
    except BlockingIOError:
        pass


def answer(connection: socket.socket) -> None:
    with connection:
        try:
            if connection.recv(4096):
                connection.send(ANSWER)
        except OSError:
            pass


main()
