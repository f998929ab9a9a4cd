"""A command run in a container, as exec checks do: bounded in time and output, and gone afterwards.

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
from aiodocker.containers import DockerContainer
from aiodocker.execs import Exec

from hale.errors import EngineError
from hale.local.engines import strays
from hale.local.engines.commands import OUTPUT
from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.environment import MARK
from hale.ports import ExecResult

log = logging.getLogger(__name__)

_AT_ONCE = 4 * (os.cpu_count() or 1)
"""Commands that run at the same time: each costs its engine some processes of its own."""
_KILLED_WITHIN = 10.0
_POLL = 0.02
_HEADER = 8
_NO_END = aiohttp.ClientTimeout(total=None, sock_connect=5)
_NOT_BEGUN = re.compile(
    r"\A(Error: .*\bOCI (runtime|permission)|OCI runtime|exec \S+: exec format error)", re.DOTALL
)
"""What runtimes say in place of the command's output; a shell's own 127 says something else."""
_LOOKS = 5
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
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self, container: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        async with self._slots:
            with engine_errors(f"run {command[0]}"):
                return await self._run(container, command, timeout)

    async def _run(self, container: str, command: Sequence[str], timeout: float) -> ExecResult:
        mark = f"exec-{secrets.token_hex(8)}"
        place = self._api.docker.containers.container(container)
        begun = await place.exec(list(command), environment={MARK: mark})
        output = bytearray()
        ended = False
        try:
            async with asyncio.timeout(timeout) as patience:
                await self._read(begun, output)
                ended = True
        except TimeoutError:
            if not patience.expired():
                raise
            return ExecResult(None, _text(output))
        finally:
            if not ended:
                # Cancelled as well as out of time; the one who waits no longer must not keep it alive.
                await asyncio.shield(self._spawn(self._end(place, begun, mark)))
        code = await self._code(begun)
        text = _text(output)
        if code in (1, 126, 127) and _NOT_BEGUN.search(text):
            raise EngineError(f"cannot run {command[0]}: {reason(text, command[0])}")
        return ExecResult(code, text)

    async def _read(self, begun: Exec, output: bytearray) -> None:
        """Until it has ended; what is beyond the bound is read and dropped."""
        docker, url = self._api.docker, self._api.url(f"exec/{begun.id}/start")
        request = {"Detach": False, "Tty": False}
        async with docker.session.post(url, json=request, timeout=_NO_END) as response:
            if response.status != 200:
                raise aiodocker.DockerError(response.status, await response.text())
            with suppress(asyncio.IncompleteReadError):
                while True:
                    header = await response.content.readexactly(_HEADER)
                    frame = await response.content.readexactly(int.from_bytes(header[4:]))
                    output += frame[: OUTPUT - len(output)]

    async def _code(self, begun: Exec) -> int | None:
        """The engine may notice the end a moment later than we."""
        async with asyncio.timeout(_KILLED_WITHIN):
            while (state := await begun.inspect())["Running"]:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
        return int(state["ExitCode"])

    async def _end(self, place: DockerContainer, begun: Exec, mark: str) -> None:
        """Kill all of it and return when it is gone; it may be only about to begin."""
        looks = 0
        try:
            async with asyncio.timeout(_KILLED_WITHIN):
                while (found := await asyncio.to_thread(_marked, mark)) or (await begun.inspect())["Running"]:
                    strays.end(found, signal.SIGKILL)
                    looks += 1
                    if looks % _LOOKS == 0:
                        await self._end_inside(place, mark)
                    await asyncio.sleep(_POLL)
        except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
            log.warning(
                "a command in container %s may still run: %s", place.id[:12], error or "it does not end"
            )

    async def _end_inside(self, place: DockerContainer, mark: str) -> None:
        begun = await place.exec(["sh", "-c", _INSIDE, f"{MARK}={mark}"])
        await self._read(begun, bytearray())


def _marked(mark: str) -> list[int]:
    """What bears the mark, and the rest of its sessions; the living alone."""
    found = strays.members(0, mark)
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == pid:
                return list({*found, *strays.members(pid, mark)})
    return found


def _text(output: bytearray) -> str:
    return output.decode(errors="replace")


def reason(text: str, command: str) -> str:
    """Why the runtime could not begin the command, without the runtime's own ceremony."""
    if "not found" in text or "no such file" in text.lower():
        return "not found in the container"
    if "permission denied" in text.lower():
        return "permission denied"
    if "exec format error" in text:
        return "it is no program for this machine"
    return " ".join(text.split())[:300].removeprefix(f"{command}: ")
