"""A command that fills a volume: guarded, heard line by line, and gone when its call is over."""

import asyncio
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hale.local.volumes import guard

_BLOCK = 64 << 10
_LONGEST = 256 << 10
"""Bytes of a line; of a longer one the end is kept."""

_END = re.compile(rb"[\r\n]+")


async def run(argv: Sequence[str], env: Mapping[str, str], cwd: Path, hear: Callable[[str], None]) -> int:
    """Run it to its end; its exit code. `hear` gets each line that it writes, to either output.

    Cancelled, it ends the command with all that it has started. So does the end of this process.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        guard.__file__,
        *argv,
        env=dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101  (asked for above)
    assert process.stdout is not None  # noqa: S101
    try:
        await _hear(process.stdout, hear)
        return await process.wait()
    finally:
        # Enough to end it all; a second cancellation only keeps us from seeing that it is over.
        process.stdin.close()
        await process.wait()


async def _hear(output: asyncio.StreamReader, hear: Callable[[str], None]) -> None:
    rest = b""
    while block := await output.read(_BLOCK):
        *lines, rest = _END.split(rest + block)
        rest = rest[-_LONGEST:]
        for line in lines:
            _tell(line, hear)
    _tell(rest, hear)


def _tell(line: bytes, hear: Callable[[str], None]) -> None:
    if line:
        hear(line.decode(errors="replace"))
