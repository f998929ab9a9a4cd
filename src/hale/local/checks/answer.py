"""An HTTP answer as it arrives. Pure: bytes are fed in, and nothing beyond fixed bounds is kept."""

import re

from hale.local.checks.body import Body, ChunkedBody
from hale.local.checks.text import readable

HEAD_LIMIT = 64 * 1024
"""Bytes of headers, those of interim answers included, before we give up."""

LOCATION = b"\nlocation:"
_TRANSFER_ENCODING = b"\ntransfer-encoding:"
_CONTENT_LENGTH = b"\ncontent-length:"
_CONTENT_ENCODING = b"\ncontent-encoding:"

_PREFIX = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.\d +\d{3}(?:[ \t][^\n\0]*|\r)?\n")
# Quantifiers never give back (`*+`), so that a hostile head costs no more than its length.
_HEAD = re.compile(
    rb"HTTP/1\.\d +(\d{3})(?:[ \t][^\n\0]*+|\r)?+"
    rb"(\n(?:[!-9;-~]++:[^\n\0]*+\n|[ \t][^\n\0]*+\n)*+)\r?\n"
)
_HEADER_LINE = re.compile(rb"(?:[!-9;-~]+:|[ \t])[^\0]*")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FIRST_LINE = 512
_SHOWN = 60
_SWITCHING_PROTOCOLS = 101


class MalformedAnswerError(Exception):
    """What came back is no HTTP answer: why, in words for a person."""


class Answer:
    """One answer, fed as it arrives.

    `status` is None until the headers are complete; `complete` says that the body needs no more.
    """

    __slots__ = ("_body", "_head_at", "_headers", "_lowered", "_raw", "_scanned", "complete", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.complete = False
        self._raw: bytes | bytearray = b""
        self._head_at = 0
        self._scanned = 0
        self._headers = self._lowered = b""
        self._body: Body | ChunkedBody | None = None

    def feed(self, chunk: bytes, *, ended: bool) -> None:
        """Take in what arrived; `ended` says that nothing will follow."""
        if self._body is None:
            self._feed_head(chunk)
        else:
            self._body.feed(chunk)
        if self._body is None:
            self._check_unfinished(ended=ended)
        else:
            self.complete = ended or self._body.complete

    @property
    def begun(self) -> bool:
        return bool(self._raw)

    def header(self, name: bytes) -> bytes | None:
        """The first header of this name, which is given as LOCATION is."""
        start = self._lowered.find(name)
        if start < 0:
            return None
        return self._headers[start + len(name) : self._headers.find(b"\n", start + 1)].strip()

    def text(self, limit: int) -> str:
        """The beginning of the body, safe to show; a compressed one is named, never decoded."""
        body = self._body.content if self._body is not None else b""
        coding = self.header(_CONTENT_ENCODING)
        if body and coding and coding.lower() != b"identity":
            return f"({len(body)} bytes of {readable(coding, _SHOWN)})"
        return readable(body, limit)

    def _feed_head(self, chunk: bytes) -> None:
        if not self._raw:
            self._raw = chunk
            if (whole := _HEAD.match(chunk)) is not None:
                self._take_head(whole)
        else:
            if isinstance(self._raw, bytes):
                self._raw = bytearray(self._raw)
            self._raw += chunk
        while self._body is None and self._head_is_there():
            self._read_head()

    def _head_is_there(self) -> bool:
        """Whether a blank line has come; each byte is looked at once, however slowly they arrive."""
        start, self._scanned = max(self._head_at, self._scanned - 2), len(self._raw)
        return _BLANK_LINE.search(self._raw, start) is not None

    def _read_head(self) -> None:
        head = _HEAD.match(self._raw, self._head_at)
        if head is None:
            self._check_first_line()
            raise MalformedAnswerError(f'the answer has a malformed header: "{self._malformed_line()}"')
        self._take_head(head)

    def _take_head(self, head: re.Match[bytes]) -> None:
        _check_size(head.end())
        status = int(head[1])
        if 100 <= status < 200 and status != _SWITCHING_PROTOCOLS:
            self._head_at = self._scanned = head.end()
            return
        self.status = status
        self._headers = head[2]
        self._lowered = self._headers.lower()
        self._body = self._framed(status)
        self._body.feed(bytes(self._raw[head.end() :]))

    def _framed(self, status: int) -> Body | ChunkedBody:
        if status in (_SWITCHING_PROTOCOLS, 204, 304):
            return Body(0)
        coding = self.header(_TRANSFER_ENCODING)
        if coding is not None:
            return ChunkedBody() if coding.lower().endswith(b"chunked") else Body(None)
        length = self.header(_CONTENT_LENGTH)
        if length is None:
            return Body(None)
        if not length.isdigit():
            raise MalformedAnswerError(
                f'the answer has no valid content-length: "{readable(length, _SHOWN)}"'
            )
        return Body(int(length[:18]))

    def _check_unfinished(self, *, ended: bool) -> None:
        """Nothing whole yet: refuse what can't become an answer, or not any more."""
        self._check_first_line()
        if ended:
            where = "within the headers of the answer" if self._raw else "without an answer"
            raise MalformedAnswerError(f"the connection was closed {where}")
        _check_size(len(self._raw))

    def _check_first_line(self) -> None:
        beginning = self._beginning()
        if not beginning.startswith(_PREFIX[: len(beginning)]):
            raise MalformedAnswerError(f'the answer is not HTTP/1: "{self._first_line()}"')
        if b"\n" in beginning and _STATUS_LINE.match(beginning) is None:
            raise MalformedAnswerError(f'the answer has no valid status line: "{self._first_line()}"')

    def _beginning(self) -> bytes:
        return bytes(self._raw[self._head_at : self._head_at + _FIRST_LINE])

    def _first_line(self) -> str:
        return readable(self._beginning().partition(b"\n")[0], _SHOWN)

    def _malformed_line(self) -> str:
        lines = bytes(self._raw[self._head_at :]).split(b"\n")[1:]
        return readable(next((line for line in lines if not _HEADER_LINE.fullmatch(line)), b""), _SHOWN)


def _check_size(size: int) -> None:
    if size > HEAD_LIMIT:
        raise MalformedAnswerError(f"the headers of the answer are longer than {HEAD_LIMIT // 1024} KiB")
