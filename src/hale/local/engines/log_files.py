"""The log of one attempt: a file that the replica appends to, cut into pieces behind its back.

A piece is named by the offset at which it begins in all that was ever written, so that a position in
the log stays what it was when old pieces go. Lines carry no time: an index beside them says how far
the log had come at which time.
"""

import ctypes
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hale.local.engines.keeper import LOG

PIECE = 10 << 20
"""Bytes of the file being written before it is cut."""
KEPT = 3
"""Pieces kept beside it."""
LINE = 16 << 10
"""Bytes of a line that are shown; the rest of a longer one follows as lines of their own."""

_TIMES = "log.times"
_COLLAPSE_RANGE = 0x08
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line, the offset just behind it, and when the log had come that far (None: just now)."""

    end: int
    at: float | None
    text: str


class LogFiles:
    """Blocking: call it from a thread. One writer of pieces and index at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / LOG
        self._timed = -1

    def tend(self, now: float) -> None:
        """Note how far the log has come, and cut it when it is large."""
        try:
            size = self._log.stat().st_size
        except FileNotFoundError:
            return
        written = self._base() + size
        if written != self._timed:
            with (self._folder / _TIMES).open("a") as file:
                file.write(f"{written} {now:.3f}\n")
            self._timed = written
        if size >= PIECE:
            self._cut(size)

    def read(self, position: int, limit: int, over: bool) -> Sequence[RawLine]:  # noqa: FBT001
        """At most `limit` lines behind `position`; an unfinished last one only once the attempt is `over`."""
        times = self._times()
        lines: list[RawLine] = []
        for line in self._split(position, over=over):
            if len(lines) == limit:
                break
            lines.append(RawLine(line[0], _when(times, line[0]), line[1].decode(errors="replace")))
        return lines

    def _split(self, position: int, *, over: bool) -> Iterator[tuple[int, bytes]]:
        pending = b""
        end = position
        for begin, block in self._blocks(position):
            if begin != end + len(pending):
                # What was between has been dropped with an old piece.
                pending, end = b"", begin
            pending += block
            while (found := pending.find(b"\n", 0, LINE)) >= 0 or len(pending) >= LINE:
                cut = found if found >= 0 else LINE
                line, pending = pending[:cut], pending[cut + (found >= 0) :]
                end += cut + (found >= 0)
                yield end, line.removesuffix(b"\r")
        if pending and over:
            yield end + len(pending), pending

    def _blocks(self, position: int) -> Iterator[tuple[int, bytes]]:
        """What is kept from `position` on, in order, with the offset of each block."""
        pieces = [*self._pieces(), (self._base(), self._log)]
        for begin, path in pieces:
            with suppress(FileNotFoundError), path.open("rb") as file:
                skipped = max(0, position - begin)
                file.seek(skipped)
                offset = begin + skipped
                while block := file.read(_BLOCK):
                    yield offset, block
                    offset += len(block)

    def _pieces(self) -> list[tuple[int, Path]]:
        """Cut-off pieces by where they begin, oldest first."""
        names = self._folder.glob(f"{LOG}.*")
        return sorted((int(path.suffix[1:]), path) for path in names if path.suffix[1:].isdigit())

    def _base(self) -> int:
        """Where the file being written begins in all that was ever written."""
        pieces = self._pieces()
        return pieces[-1][0] + pieces[-1][1].stat().st_size if pieces else 0

    def _cut(self, size: int) -> None:
        """Move the head of the log into a piece; the replica goes on writing to the same file meanwhile."""
        base = self._base()
        piece = self._folder / f"{LOG}.{base}"
        part = self._folder / "piece.part"
        descriptor = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
        try:
            block = os.fstat(descriptor).st_blksize
            # The file must keep at least one byte for the range to be taken out of it.
            head = (size - 1) // block * block
            with part.open("wb") as file:
                _copy(descriptor, file.fileno(), head)
            if _collapse(descriptor, head):
                part.rename(piece)
            else:
                self._cut_by_copy(descriptor, part, piece, head)
        finally:
            os.close(descriptor)
        for _, path in self._pieces()[:-KEPT]:
            path.unlink()

    def _cut_by_copy(self, descriptor: int, part: Path, piece: Path, copied: int) -> None:
        """Where ranges can't be taken out: what is written between the last copy and the cut is lost."""
        with part.open("ab") as file:
            while (rest := os.fstat(descriptor).st_size - copied) > 0:
                os.lseek(descriptor, copied, os.SEEK_SET)
                _copy(descriptor, file.fileno(), rest, seek=False)
                copied += rest
            os.ftruncate(descriptor, 0)
        part.rename(piece)

    def _times(self) -> Sequence[tuple[int, float]]:
        times = []
        with suppress(FileNotFoundError):
            for line in (self._folder / _TIMES).read_text().splitlines():
                offset, _, at = line.partition(" ")
                with suppress(ValueError):
                    times.append((int(offset), float(at)))
        return times


def _when(times: Sequence[tuple[int, float]], offset: int) -> float | None:
    place = bisect_left(times, (offset, 0.0))
    return times[place][1] if place < len(times) else None


def _copy(source: int, target: int, count: int, *, seek: bool = True) -> None:
    if seek:
        os.lseek(source, 0, os.SEEK_SET)
    while count > 0:
        block = os.read(source, min(count, 1 << 20))
        if not block:
            return
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
        count -= len(block)


def _collapse(descriptor: int, count: int) -> bool:
    """Take the first `count` bytes out of the file; False where the file system can't."""
    if count <= 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = libc.fallocate64
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(fallocate(descriptor, _COLLAPSE_RANGE, 0, count) == 0)
