"""The body of an answer, as much of it as is kept. Pure."""

import re

BODY_LIMIT = 10 * 1024
"""Bytes of a body that are read and kept."""

_CHUNK_SIZE = re.compile(rb"(?:\r?\n)?([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_CHUNK_SIZE_LIMIT = 4096


class Body:
    """A body of a known length, or (None) one that ends with the connection."""

    __slots__ = ("_limit", "complete", "content")

    def __init__(self, length: int | None) -> None:
        self.content = b""
        self.complete = length == 0
        self._limit = BODY_LIMIT if length is None else min(length, BODY_LIMIT)

    def feed(self, part: bytes) -> None:
        """Take in the next bytes; `complete` says that no more are needed."""
        self.content = (self.content + part)[: self._limit]
        self.complete = len(self.content) >= self._limit


class ChunkedBody:
    """A body in chunks; where they are malformed it ends."""

    __slots__ = ("_left", "_rest", "complete", "content")

    def __init__(self) -> None:
        self.content = bytearray()
        self.complete = False
        self._left = 0
        self._rest = bytearray()

    def feed(self, part: bytes) -> None:
        """Take in the next bytes; `complete` says that no more are needed."""
        self._rest += part
        while not self.complete and (self._take_chunk() if self._left else self._take_size()):
            pass

    def _take_chunk(self) -> bool:
        taken = min(self._left, len(self._rest))
        self.content += self._rest[: min(taken, BODY_LIMIT - len(self.content))]
        self.complete = len(self.content) >= BODY_LIMIT
        self._left -= taken
        del self._rest[:taken]
        return self._left == 0

    def _take_size(self) -> bool:
        size = _CHUNK_SIZE.match(self._rest)
        if size is None:
            self.complete = b"\n" in self._rest[2:] or len(self._rest) > _CHUNK_SIZE_LIMIT
            return False
        self._left = int(size[1], 16)
        self.complete = self._left == 0
        del self._rest[: size.end()]
        return True
