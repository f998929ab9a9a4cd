"""The engine's line to its keeper: found, or started, or started anew."""

import asyncio
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hale.errors import EngineUnavailableError
from hale.local.engines import keeper

_PATIENCE = 10.0
_PAUSE = 0.02
_LIMIT = 64 << 20
"""Bytes of an answer, which has the whole record in it: 2 MiB of variables, six bytes for a letter."""


class _LostError(EngineUnavailableError):
    """The keeper ended before it answered."""


class KeeperLink:
    """One connection, opened when it is needed; requests take their turn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        return self._streams is not None and not self._streams[0].at_eof()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """The answer; EngineUnavailableError if there is none. Asking again starts nothing twice."""
        async with self._turn:
            if self.connected:
                with suppress(_LostError):
                    return await self._ask(request)
            await self._open()
            return await self._ask(request)

    async def open(self) -> None:
        """Have a keeper."""
        async with self._turn:
            if not self.connected:
                await self._open()

    async def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        assert self._streams is not None  # noqa: S101  (opened by the caller)
        reader, writer = self._streams
        try:
            async with asyncio.timeout(_PATIENCE):
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            answer: dict[str, Any] = json.loads(line) if line else {}
        except TimeoutError as error:
            self.close()
            raise EngineUnavailableError("cannot ask the keeper of replicas: no answer") from error
        except asyncio.CancelledError:
            # The answer is still to come, and is nobody else's.
            self.close()
            raise
        except (OSError, ValueError) as error:
            # What is left of an answer that makes no sense is no answer to the next question.
            self.close()
            raise _LostError(f"cannot ask the keeper of replicas: {error}") from error
        if not line:
            self.close()
            raise _LostError("cannot ask the keeper of replicas: it ended")
        return answer

    async def _open(self) -> None:
        """A keeper that is just ending may be in the way of the next one for a moment."""
        self.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                while not await self._connect():
                    if not await self._start():
                        await asyncio.sleep(_PAUSE)
        except TimeoutError as error:
            raise EngineUnavailableError("cannot reach the keeper of replicas: it does not listen") from error

    async def _connect(self) -> bool:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Through the descriptor: a socket's path may have 107 bytes, a folder's any number.
            path = f"/proc/self/fd/{descriptor}/{keeper.SOCKET}"
            await asyncio.get_running_loop().sock_connect(connection, path)
        except OSError:
            connection.close()
            return False
        finally:
            os.close(descriptor)
        self._streams = await asyncio.open_unix_connection(sock=connection, limit=_LIMIT)
        try:
            await self._ask({"do": "hello"})
        except _LostError:
            return False
        return True

    async def _start(self) -> bool:
        """Whether it began: there may be one. It listens once what we start has ended, whose child it is."""
        log = os.open(
            self._folder / "keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(Path(keeper.__file__)),
                str(self._folder),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={},
            )
        except OSError as error:
            raise EngineUnavailableError(f"cannot start the keeper of replicas: {error.strerror}") from error
        finally:
            os.close(log)
        code = await process.wait()
        if code not in (0, 3):
            raise EngineUnavailableError(
                f"cannot start the keeper of replicas: it ended with {code}",
                hint=f"see {self._folder / 'keeper.log'}",
            )
        return code == 0

    async def end(self) -> None:
        """Let it end, when no replica is left, and wait until it has."""
        if not self.connected and not await self._connect():
            return
        with suppress(EngineUnavailableError):
            await self.ask({"do": "end"})
        if self._streams is not None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._streams[0].read()
        self.close()
