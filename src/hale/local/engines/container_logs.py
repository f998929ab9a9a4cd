"""Logs of containers: copied from the engine into files of ours, which outlive the container.

How far the copy has come is written beside it as the time of the newest entry and how many entries there
are from that time on: engines can be asked for those of a time and later, and keep them in order. An entry
that was copied just before hale was killed, and not yet noted, is known from the length of the copy.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import ParamSpec, TypeVar

import aiodocker
import aiohttp

from hale.clock import Clock
from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.keeper import LOG
from hale.local.engines.log_files import LogFiles
from hale.local.engines.records import Records
from hale.ports import LogLine

P = ParamSpec("P")
T = TypeVar("T")

LINES = 1000

_MARK = "copied.json"
_HEADER = 8
_BATCH = 1 << 20
_OK, _NOT_FOUND = 200, 404
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?")
_SECOND = 10
"""Times are tenths of a second: what is written faster than that may not be in order."""
_NO_END = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the engine wrote down at once: a line of one of the two streams, or a part of one.

    `at` is tenths of a second since the epoch.
    """

    at: int
    text: bytes
    stream: int = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """Copied so far: of the entries from the time `at` on the first `count`; the copy had `size` bytes.

    `open` is the stream whose last line has not ended yet, if there is one.
    """

    at: int = 0
    count: int = 0
    size: int = 0
    open: int = 0


class Splitter:
    """Entries out of a stream of frames: a header of 8 bytes with the length, a time stamp, the text."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> Sequence[Entry]:
        content = self._rest + block
        begin, entries = 0, []
        while len(content) - begin >= _HEADER:
            end = begin + _HEADER + int.from_bytes(content[begin + 4 : begin + _HEADER])
            if end > len(content):
                break
            entries.append(entry(content[begin + _HEADER : end], content[begin]))
            begin = end
        self._rest = content[begin:]
        return entries


def entry(frame: bytes, stream: int) -> Entry:
    stamp = _STAMP.match(frame)
    if stamp is None:
        return Entry(0, frame, stream)
    at = _seconds(stamp[1], stamp[3]) * _SECOND + int((stamp[2] or b"0")[:1])
    return Entry(at, frame[stamp.end() :], stream)


def joined(entries: Iterable[Entry], going: int) -> tuple[bytes, int]:
    """The text of entries behind an unfinished line of the stream `going` (0: none), and the next such.

    A line of one stream ends where the other one writes.
    """
    texts = []
    for each in entries:
        if going not in (0, each.stream):
            texts.append(b"\n")
        texts.append(each.text)
        going = 0 if each.text.endswith(b"\n") else each.stream
    return b"".join(texts), going


@lru_cache(64)
def _seconds(time: bytes, zone: bytes) -> int:
    return int(datetime.fromisoformat((time + zone.replace(b"Z", b"+00:00")).decode()).timestamp())


class _Copy:
    """The copy of one attempt's log. Blocking, except for `turn`: one copies at a time."""

    def __init__(self, folder: Path) -> None:
        self.turn = asyncio.Lock()
        self.mark = Mark()
        self._folder = folder
        self._files: LogFiles | None = None
        self._since = self._known = 0
        self._surplus = 0

    def begin(self) -> Mark:
        """Where to go on: the engine is asked for all entries of the mark's time and later ones."""
        self.mark = self._read_mark()
        if self._files is None:
            self._files = LogFiles(self._folder)
            self._files.tend(self.mark.at / _SECOND)  # mends what a crash left
        self._since, self._known = self.mark.at, self.mark.count
        self._surplus = max(0, self._files.end() - self.mark.size)
        return self.mark

    def take(self, entries: Sequence[Entry]) -> None:
        """Append what is new of them. The mark is written last: what it does not know, the size tells."""
        fresh = self._fresh(entries)
        if not fresh or self._files is None:
            return
        at, count, going = self.mark.at, self.mark.count, self.mark.open
        for time, of_that_time in groupby(fresh, key=lambda each: each.at):
            these = list(of_that_time)
            if time > at:
                at, count = time, 0
            if time == at:
                count += len(these)
            text, going = joined(these, going)
            self._append(self._files, text, at)
        self.mark = Mark(at, count, self._files.end(), going)
        part = self._folder / f"{_MARK}.part"
        part.write_text(json.dumps([at, count, self.mark.size, going]))
        part.rename(self._folder / _MARK)

    def _fresh(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Without those that are known, as far as the engine still has them: of a long log it drops some."""
        place = 0
        while self._known and place < len(entries) and entries[place].at <= self._since:
            self._known -= entries[place].at == self._since
            place += 1
        if place < len(entries):
            self._known = 0
        return entries[place:]

    def _append(self, files: LogFiles, text: bytes, at: int) -> None:
        skipped = min(self._surplus, len(text))
        self._surplus -= skipped
        with (self._folder / LOG).open("ab") as file:
            file.write(text[skipped:])
        files.tend(at / _SECOND)

    def _read_mark(self) -> Mark:
        try:
            at, count, size, going = json.loads((self._folder / _MARK).read_bytes())
            return Mark(int(at), int(count), int(size), int(going))
        except (FileNotFoundError, ValueError, TypeError):
            return Mark()


def _take(copy: _Copy, splitter: Splitter, block: bytes) -> None:
    copy.take(splitter.feed(block))


def _since(at: int, *, podman: bool) -> str:
    """Just before that time, as the engine wants to be told; Podman would round a number."""
    seconds, rest = divmod(max(0, at - 1), _SECOND)
    if not podman:
        return f"{seconds}.{rest}99999999"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest}99999999Z"


@dataclass(slots=True)
class ContainerLogs:
    """`copy` as often as is good, `lines` from the copy. Nothing of it needs the container itself."""

    api: Api
    records: Records
    clock: Clock
    _copies: dict[tuple[str, int], _Copy] = field(default_factory=dict)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "container-logs"))

    async def copy(self, container: str, replica_id: str, attempt: int) -> bool:
        """Bring the copy up to what the engine has; whether there was anything new."""
        copy = self._copy(replica_id, attempt)
        async with copy.turn:
            mark = await self.in_thread(copy.begin)
            before = (mark.at, mark.count)
            splitter = Splitter()
            async with aclosing(self._stream(container, mark.at)) as blocks:
                async for block in blocks:
                    await self.in_thread(_take, copy, splitter, block)
            return before != (copy.mark.at, copy.mark.count)

    async def _stream(self, container: str, since: int) -> AsyncGenerator[bytes, None]:
        """The log's bytes in large blocks."""
        url = self.api.url(
            f"containers/{container}/logs",
            stdout="1",
            stderr="1",
            timestamps="1",
            since=_since(since, podman=self.api.host.podman),
        )
        with engine_errors(f"read the log of container {container[:12]}"):
            async with self.api.docker.session.get(url, timeout=_NO_END) as response:
                if response.status == _NOT_FOUND:
                    return
                if response.status != _OK:
                    raise aiodocker.DockerError(response.status, await response.text())
                pending = bytearray()
                async for block in response.content.iter_any():
                    pending += block
                    if len(pending) >= _BATCH:
                        yield bytes(pending)
                        pending.clear()
                yield bytes(pending)

    async def lines(self, replica_id: str, after: tuple[int, int], going: int | None) -> Sequence[LogLine]:
        """As Engine.log_lines; `going` is the attempt whose last line may not be finished yet."""
        lines: list[LogLine] = []
        for attempt in self.records.attempts(replica_id):
            if attempt < after[0] or len(lines) >= LINES:
                continue
            position = max(0, after[1]) if attempt == after[0] else 0
            logs = LogFiles(self.records.attempt(replica_id, attempt))
            found = await self.in_thread(logs.read, position, LINES - len(lines), attempt != going)
            now = self.clock.now()
            lines += [
                LogLine(replica_id, attempt, line.at if line.at is not None else now, line.end, line.text)
                for line in found
            ]
        return lines

    async def prepare(self, replica_id: str, attempt: int) -> None:
        """Make room for an attempt, when those before it are over."""
        self._forget(replica_id)
        await self.in_thread(self.records.prepare, replica_id, attempt)

    async def remove(self, replica_id: str) -> None:
        self._forget(replica_id)
        await self.in_thread(self.records.remove, replica_id)

    def close(self) -> None:
        self._thread.shutdown()

    def _forget(self, replica_id: str) -> None:
        for key in [key for key in self._copies if key[0] == replica_id]:
            del self._copies[key]

    def _copy(self, replica_id: str, attempt: int) -> _Copy:
        key = (replica_id, attempt)
        if key not in self._copies:
            self._copies[key] = _Copy(self.records.attempt(replica_id, attempt))
        return self._copies[key]

    async def in_thread(self, do: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """One thread for all files: what writes them and what reads them take turns."""
        call = partial(do, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
