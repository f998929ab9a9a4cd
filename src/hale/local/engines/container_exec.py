"""A command run in a container, as exec checks do: bounded in time and output, and gone afterwards.

Beginning it takes the engine a tenth of a second of processor time and more. That is not on the command's
time: an engine that is slow, as on a busy machine, makes checks late and does not make them fail.

No engine can end what it began there. Everything the command starts inherits a variable of its own, by which
it is found among the machine's processes; where those can't be seen or ended, a shell in the container looks.
"""

import asyncio
import logging
import os
import re
import secrets
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

import aiodocker
import aiohttp
from aiodocker.execs import Exec

from hale.errors import EngineError
from hale.local.engines import strays
from hale.local.engines.commands import OUTPUT
from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.environment import MARK
from hale.ports import ExecResult

log = logging.getLogger(__name__)

_BEGINNING = os.cpu_count() or 1
"""Commands that are begun at the same time: more would begin no sooner, and leave no core to others."""
_RUNNING = 64
"""Commands that run at the same time: each holds a connection to the engine."""
_BEGUN_WITHIN = 60.0
_FIRST_LOOK, _LONGEST_LOOK = 0.05, 1.0
_KILLED_WITHIN = 10.0
_SAID_WITHIN = 5.0
_POLL = 0.02
_HEADER = 8
_NO_END = aiohttp.ClientTimeout(total=None, sock_connect=5)
_NOT_BEGUN = re.compile(
    r"\A(Error: .*\bOCI (runtime|permission)|OCI runtime|exec \S+: exec format error)", re.DOTALL
)
"""What runtimes say in place of the command's output; a shell's own 127 says something else."""
_LOOKS = 20
"""How often the machine's processes are looked through before a shell in the container is asked."""
_INSIDE = """
for process in /proc/[0-9]*; do
  tr '\\0' '\\n' <"$process/environ" | grep -qxF "$0" && kill -9 "${process#/proc/}"
done 2>/dev/null
"""


class ContainerExec:
    """Runs commands; those beyond a number wait, which is not on their time."""

    def __init__(self, api: Api, spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]]) -> None:
        self._api = api
        self._spawn = spawn
        self._running = asyncio.Semaphore(_RUNNING)
        self._beginning = asyncio.Semaphore(_BEGINNING)

    async def run(self, container: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        async with self._running:
            with engine_errors(f"run {command[0]}"):
                return await self._run(container, command, timeout)

    async def _run(self, container: str, command: Sequence[str], timeout: float) -> ExecResult:
        run = _Command(self._api, container)
        begun: asyncio.Future[None] | None = None
        try:
            async with self._beginning:
                begun = asyncio.get_running_loop().create_future()
                self._spawn(run.begin(command, begun))
                await asyncio.shield(begun)
            await run.read(timeout)
        finally:
            if begun is not None:
                # Cancelled as well as out of time; the one who waits no longer must not keep it alive.
                await asyncio.shield(self._spawn(run.end(begun)))
        if run.killed:
            return ExecResult(None, run.text)
        code = await run.code()
        if code in (1, 126, 127) and _NOT_BEGUN.search(run.text):
            raise EngineError(f"cannot run {command[0]}: {reason(run.text, command[0])}")
        return ExecResult(code, run.text)


class _Command:
    """One of them. `over`: it has said all, or was not asked for; `killed`: we ended it."""

    def __init__(self, api: Api, container: str) -> None:
        self._api = api
        self._place = api.docker.containers.container(container)
        self._mark = f"exec-{secrets.token_hex(8)}"
        self._exec: Exec
        self._response: aiohttp.ClientResponse | None = None
        self._content: aiohttp.StreamReader
        self._stream = b""
        self._output = bytearray()
        self.over = True
        self.killed = False

    @property
    def text(self) -> str:
        return self._output.decode(errors="replace")

    async def begin(self, command: Sequence[str], begun: asyncio.Future[None]) -> None:
        """See its beginning through, whoever waits: the engine would go on, and nobody would end it."""
        try:
            async with asyncio.timeout(_BEGUN_WITHIN):
                await self._begin(command)
            begun.set_result(None)
        except Exception as error:
            begun.set_exception(error)
        finally:
            begun.cancel()

    async def _begin(self, command: Sequence[str]) -> None:
        """Return once it runs, or is over already."""
        self._exec = await self._place.exec(list(command), environment={MARK: self._mark})
        self.over = False
        url, request = self._api.url(f"exec/{self._exec.id}/start"), {"Detach": False, "Tty": False}
        response = await self._api.docker.session.post(url, json=request, timeout=_NO_END)
        self._response, self._content = response, response.content
        if response.status != 200:
            raise aiodocker.DockerError(response.status, await response.text())
        pause = _FIRST_LOOK
        while not await self.read(pause) and not await self._runs():
            pause = min(2 * pause, _LONGEST_LOOK)

    async def read(self, seconds: float) -> bool:
        """Until it is over, which is the answer, or for so long; what is beyond the bound is dropped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as patience:
                while block := await self._content.readany():
                    self._take(block)
                self.over = True
        if not self.over and not patience.expired():
            raise TimeoutError
        return self.over

    def _take(self, block: bytes) -> None:
        """Frames of a header, which ends with their length, and of so many bytes."""
        self._stream += block
        while len(self._stream) >= _HEADER:
            end = _HEADER + int.from_bytes(self._stream[4:_HEADER])
            if len(self._stream) < end:
                return
            self._output += self._stream[_HEADER : min(end, _HEADER + OUTPUT - len(self._output))]
            self._stream = self._stream[end:]

    async def code(self) -> int | None:
        """The engine may notice the end a moment later than we."""
        async with asyncio.timeout(_KILLED_WITHIN):
            while (state := await self._exec.inspect())["Running"]:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
        return int(state["ExitCode"])

    async def end(self, begun: asyncio.Future[None]) -> None:
        """Once it has begun, kill all of it unless it is over, and return when it is gone."""
        await asyncio.wait([begun])
        failure = begun.cancelled() or begun.exception()
        if not self.over and not isinstance(failure, aiodocker.DockerError):
            await self._kill()
        if not self.killed and not failure:
            await self.read(_SAID_WITHIN)  # it had ended by itself, only just
        self.close()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()

    async def _kill(self) -> None:
        looks = 0
        try:
            async with asyncio.timeout(_KILLED_WITHIN):
                while (found := await asyncio.to_thread(_marked, self._mark)) or await self._runs():
                    self.killed = self.killed or bool(found)
                    strays.end(found, signal.SIGKILL)
                    looks += 1
                    if looks % _LOOKS == 0:
                        await self._kill_inside()
                    await asyncio.sleep(_POLL)
        except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
            self.killed = True
            log.warning(
                "a command in container %s may still run: %s", self._place.id[:12], error or "it does not end"
            )

    async def _kill_inside(self) -> None:
        self.killed = True
        killer = _Command(self._api, self._place.id)
        await killer._begin(["sh", "-c", _INSIDE, f"{MARK}={self._mark}"])
        await killer.read(_KILLED_WITHIN)
        killer.close()

    async def _runs(self) -> bool:
        return bool((await self._exec.inspect())["Running"])


def _marked(mark: str) -> list[int]:
    """What bears the mark, and the rest of its sessions; the living alone."""
    found = strays.members(0, mark)
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == pid:
                return list({*found, *strays.members(pid, mark)})
    return found


def reason(text: str, command: str) -> str:
    """Why the runtime could not begin the command, without the runtime's own ceremony."""
    if "not found" in text or "no such file" in text.lower():
        return "not found in the container"
    if "permission denied" in text.lower():
        return "permission denied"
    if "exec format error" in text:
        return "it is no program for this machine"
    return " ".join(text.split())[:300].removeprefix(f"{command}: ")
