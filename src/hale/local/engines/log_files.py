"""The log of one attempt: a file that the replica appends to, cut into pieces behind its back.

A piece is named by the offset at which it begins in all that was ever written, so that a position in
the log stays what it was when old pieces go. Lines carry no time: an index beside them says how far
the log had come at which time.
"""

import ctypes
import os
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hale.local.engines.keeper import LOG

PIECE = 10 << 20
"""Bytes of the file being written before it is cut, and of each piece."""
KEPT = 3
"""Pieces kept beside it."""
LINE = 16 << 10
"""Bytes of a line that are shown; the rest of a longer one follows as lines of their own."""

_TIMES = "log.times"
_PART = "part"
_COLLAPSE_RANGE = 0x08
_BLOCK = 1 << 16
_TIME = struct.Struct("<Qd")
"""An entry of the index: so many bytes had been written at that time."""


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
        self._times = folder / _TIMES
        self._seen: int | None = None
        self._begin: int | None = None

    def tend(self, now: float) -> None:
        """Note how far the log has come, and cut it when it is large; an idle one costs a system call."""
        try:
            size = self._log.stat().st_size
        except FileNotFoundError:
            return
        if size == self._seen:
            return
        if self._begin is None:
            self._mend()
            self._begin = self._base()
        with self._times.open("ab") as file:
            file.write(_TIME.pack(self._begin + size, now))
        self._seen = size
        if size >= PIECE:
            self._seen = self._begin = None
            self._cut()

    def end(self) -> int:
        """How many bytes were ever written."""
        size = self._log.stat().st_size if self._log.exists() else 0
        return self._base() + size

    def read(self, position: int, limit: int, over: bool) -> Sequence[RawLine]:  # noqa: FBT001
        """At most `limit` lines behind `position`; an unfinished last one only once the attempt is `over`."""
        times = _Times(self._times)
        lines: list[RawLine] = []
        for line in self._split(position, over=over):
            if len(lines) == limit:
                break
            lines.append(RawLine(line[0], times.of(line[0]), line[1].decode(errors="replace")))
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

    def _cut(self) -> None:
        """Move the head of the log into pieces; the replica goes on writing to the same file meanwhile."""
        descriptor = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Not until it is small: who writes faster than we cut must not keep the thread.
            for _ in range(KEPT + 1):
                if (size := os.fstat(descriptor).st_size) >= PIECE:
                    self._cut_piece(descriptor, size)
        finally:
            os.close(descriptor)
        pieces = self._pieces()
        for _, path in pieces[:-KEPT]:
            path.unlink()
        _Times(self._times).drop(pieces[-KEPT:][0][0])

    def _cut_piece(self, descriptor: int, size: int) -> None:
        block = os.fstat(descriptor).st_blksize
        # What would not be kept anyway is not copied: nobody shall fill the disk faster than we cut.
        surplus = max(0, size - (KEPT + 1) * PIECE) // block * block
        # The file must keep at least one byte for a range to be taken out of it.
        count = max(1, min(PIECE, size - 1) // block) * block
        begin = self._base() + surplus
        part = self._folder / f"{_PART}.{begin}"
        try:
            with part.open("wb") as file:
                _copy(descriptor, file.fileno(), surplus, count)
            if not _collapse(descriptor, surplus + count):
                part.unlink()
                self._cut_all(descriptor, size)
                return
        except OSError:
            part.unlink(missing_ok=True)
            raise
        part.rename(self._folder / f"{LOG}.{begin}")

    def _mend(self) -> None:
        """A piece that was copied when we were killed: is it still in the log as well?"""
        for part in self._folder.glob(f"{_PART}.*"):
            begin = int(part.suffix[1:])
            if _head(self._log, begin - self._base()).startswith(_head(part, 0)):
                part.unlink()
            else:
                part.rename(self._folder / f"{LOG}.{begin}")

    def _cut_all(self, descriptor: int, size: int) -> None:
        """Where ranges can't be taken out: what is written between the last copy and the cut is lost."""
        begin = copied = max(0, size - KEPT * PIECE)
        piece = self._folder / f"{LOG}.{self._base() + begin}"
        with piece.open("wb") as file:
            while (rest := os.fstat(descriptor).st_size - copied) > 0:
                _copy(descriptor, file.fileno(), copied, rest)
                copied += rest
        os.ftruncate(descriptor, 0)


class _Times:
    """The index: when the log had come how far. Entries of one size, so that nothing has to be parsed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._entries = path.read_bytes()
        except FileNotFoundError:
            self._entries = b""

    def of(self, offset: int) -> float | None:
        place = self._place(offset)
        return self._entry(place)[1] if place < self._count else None

    def drop(self, offset: int) -> None:
        """Forget what is known about bytes before the offset."""
        part = self._path.with_suffix(".part")
        part.write_bytes(self._entries[self._place(offset) * _TIME.size :])
        part.rename(self._path)

    @property
    def _count(self) -> int:
        return len(self._entries) // _TIME.size

    def _place(self, offset: int) -> int:
        return bisect_left(range(self._count), offset, key=lambda place: self._entry(place)[0])

    def _entry(self, place: int) -> tuple[int, float]:
        written, at = _TIME.unpack_from(self._entries, place * _TIME.size)
        return written, at


def _head(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(_BLOCK)


def _copy(source: int, target: int, begin: int, count: int) -> None:
    while count > 0:
        sent = os.sendfile(target, source, begin, count)
        if not sent:
            return
        begin += sent
        count -= sent


def _collapse(descriptor: int, count: int) -> bool:
    """Take the first `count` bytes out of the file; False where the file system can't."""
    if count <= 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = libc.fallocate64
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(fallocate(descriptor, _COLLAPSE_RANGE, 0, count) == 0)
