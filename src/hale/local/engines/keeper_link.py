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
_LIMIT = 1 << 20


class _LostError(EngineUnavailableError):
    """The keeper ended before it answered."""


class KeeperLink:
    """One connection, opened when it is needed; requests take their turn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._pid = 0
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        return self._streams is not None and not self._streams[0].at_eof()

    @property
    def pid(self) -> int | None:
        """Who writes down how its replicas end, as far as is known."""
        return self._pid if self.connected else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """The answer; EngineUnavailableError if there is none."""
        async with self._turn:
            if self.connected:
                with suppress(_LostError):
                    return await self._ask(request)
            # It ended, or nobody asked before.
            self.close()
            await self._open()
            return await self._ask(request)

    async def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        assert self._streams is not None  # noqa: S101  (opened by the caller)
        reader, writer = self._streams
        try:
            async with asyncio.timeout(_PATIENCE):
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
        except TimeoutError as error:
            self.close()
            raise EngineUnavailableError("cannot ask the keeper of replicas: no answer") from error
        except OSError as error:
            raise _LostError(f"cannot ask the keeper of replicas: {error.strerror or error}") from error
        if not line:
            raise _LostError("cannot ask the keeper of replicas: it ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _open(self) -> None:
        if not await self._connect():
            await self._start()
            if not await self._connect():
                raise EngineUnavailableError("cannot reach the keeper of replicas: it does not listen")

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
        hello = await self._ask({"do": "hello"})
        self._pid = int(hello["pid"])
        if hello["version"] != keeper.VERSION:
            # Its replicas stay with it; new ones get a keeper that can be talked to once they are gone.
            self.close()
            raise EngineUnavailableError(
                f"cannot talk to the keeper of replicas: it is version {hello['version']}, "
                f"and {keeper.VERSION} is wanted",
                hint="run `hale down` with the hale that started it",
            )
        return True

    async def _start(self) -> None:
        """It is ready when the process that we start has ended: the keeper is its child, and nobody's."""
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
