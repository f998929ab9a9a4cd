"""Talking to HAProxy over its Unix sockets."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence

from hale.errors import BalancerError

MASTER = "master.sock"

_PROMPT = b"\n> "
_ANSWER_SECONDS = 10.0


def in_folder(folder: int, name: str) -> str:
    """A path that fits into a socket address, however deep the folder lies."""
    return f"/proc/self/fd/{folder}/{name}"


async def ask_master(folder: int, command: str, *, patience: float = 1.0) -> str:
    """One question to the master process; BalancerError when there is none or it does not answer.

    It forgets those that it took and did not answer before a reload: they are to be asked again.
    """
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(in_folder(folder, MASTER))
            try:
                writer.write(f"{command}\nquit\n".encode())
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except TimeoutError as error:
        raise BalancerError(f"cannot ask HAProxy's master process: no answer to {command}") from error
    except OSError as error:
        raise BalancerError(f"cannot ask HAProxy's master process: {error}") from error


class ConnectionLostError(BalancerError):
    """HAProxy went away: it will be back in a moment, and can be told then."""


class Runtime:
    """A standing connection to a worker. What is told goes out before the call returns, in order.

    `on_trouble` hears of answers to `tell` that are not a plain yes, and of the end of the connection.
    """

    def __init__(self, connection: socket.socket, on_trouble: Callable[[str], None]) -> None:
        self._socket = connection
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[str] | None] = deque()
        self._unsent = b""
        self._received = bytearray()
        self.closed = False

    @classmethod
    def connect(cls, path: str, on_trouble: Callable[[str], None]) -> "Runtime":
        """OSError if nobody listens there."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)  # noqa: FBT003
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        runtime = cls(connection, on_trouble)
        runtime._loop.add_reader(connection, runtime._read)
        runtime._waiting.append(None)
        runtime._send(b"prompt\n")
        return runtime

    def tell(self, command: str) -> None:
        if not self.closed:
            self._waiting.append(None)
            self._send(command.encode() + b"\n")

    async def ask(self, commands: Sequence[str]) -> list[str]:
        """The answers, in order. All commands are on their way before this waits."""
        if self.closed:
            raise ConnectionLostError("cannot tell HAProxy: the connection is closed")
        answers = [self._loop.create_future() for _ in commands]
        self._waiting.extend(answers)
        self._send("".join(f"{command}\n" for command in commands).encode())
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return [await answer for answer in answers]
        except TimeoutError as error:
            self._lost("no answer")
            raise BalancerError(f"cannot tell HAProxy: no answer in {_ANSWER_SECONDS:g} s") from error

    def _send(self, content: bytes) -> None:
        if self._unsent:
            self._unsent += content
            return
        try:
            sent = self._socket.send(content)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(str(error))
            return
        if sent < len(content):
            self._unsent = content[sent:]
            self._loop.add_writer(self._socket, self._write)

    def _write(self) -> None:
        content, self._unsent = self._unsent, b""
        self._loop.remove_writer(self._socket)
        self._send(content)

    def _read(self) -> None:
        try:
            received = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(str(error))
            return
        if not received:
            self._lost("HAProxy closed it")
            return
        self._received += received
        if self._received.endswith(_PROMPT):
            self._answered()

    def _answered(self) -> None:
        answers = bytes(self._received).split(_PROMPT)[:-1]
        self._received.clear()
        for content in answers:
            text = content.decode(errors="replace").strip("\n")
            answer = self._waiting.popleft()
            if answer is not None:
                if not answer.done():
                    answer.set_result(text)
            elif text:
                self._on_trouble(text)

    def _lost(self, why: str) -> None:
        if not self.closed:
            self.close()
            self._on_trouble(f"the connection is closed: {why}")

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for answer in self._waiting:
            if answer is not None and not answer.done():
                answer.set_exception(ConnectionLostError("cannot tell HAProxy: the connection closed"))
                answer.exception()  # taken note of, also where nobody waits for it any more
        self._waiting.clear()
