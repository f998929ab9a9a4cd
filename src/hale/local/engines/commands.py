"""A command run beside a replica, as exec checks do: bounded in time and output, and gone afterwards."""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hale.errors import EngineError, EngineUnavailableError
from hale.ports import ExecResult

OUTPUT = 10 << 10

_OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What hale or the machine has run out of; it says nothing about the command."""
_PIPE = 64 << 10


class _Output:
    """The first bytes of a pipe; the rest is read and dropped, so that nobody waits for us to read."""

    def __init__(self) -> None:
        self.kept = b""
        self._read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write, True)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read, self.drain)

    def drain(self) -> None:
        """All that a pipe holds, once: who writes faster than we read must not keep the loop."""
        with suppress(BlockingIOError):
            block = os.read(self._read, _PIPE)
            self.kept += block[: OUTPUT - len(self.kept)]
            if not block:
                self._loop.remove_reader(self._read)

    def close_write(self) -> None:
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        self.close_write()
        self._loop.remove_reader(self._read)
        os.close(self._read)


async def run_command(argv: Sequence[str], env: Mapping[str, str], cwd: str, *, timeout: float) -> ExecResult:
    """Run it to its end, or for `timeout` seconds; nothing of its process group is left either way."""
    output = _Output()
    try:
        process = await _start(argv, env, cwd, output)
        output.close_write()
        code: int | None = None
        try:
            async with asyncio.timeout(timeout):
                code = await process.wait()
        except TimeoutError:
            pass
        finally:
            # What it left in the background goes with it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if code is None:
            await process.wait()
        output.drain()
        return ExecResult(code, output.kept.decode(errors="replace"))
    finally:
        output.close()


async def _start(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, output: _Output
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.write,
            stderr=output.write,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _OWN_TROUBLE:
            raise EngineUnavailableError(f"cannot run {argv[0]}: {error.strerror}") from error
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise EngineError(f"cannot run {argv[0]}: {why[:1].lower()}{why[1:]}") from error
