import gzip
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.local.checks.answer import HEAD_LIMIT, Answer, MalformedAnswerError
from hale.local.checks.body import BODY_LIMIT

ODD = "\N{REPLACEMENT CHARACTER}"
CHUNKED = b"Transfer-Encoding: chunked"


def read(*parts: bytes, ended: bool = True) -> Answer:
    answer = Answer()
    for part in parts[:-1]:
        answer.feed(part, ended=False)
    answer.feed(parts[-1], ended=ended)
    return answer


def feed_often(answer: Answer, part: bytes) -> None:
    for _ in range(HEAD_LIMIT):
        answer.feed(part, ended=False)


def body(*parts: bytes, ended: bool = True) -> str:
    return read(*parts, ended=ended).text(BODY_LIMIT)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", 404),
        (b"HTTP/1.1 204\r\n\r\n", 204),
        (b"HTTP/1.1 204 \r\n\r\n", 204),
        (b"HTTP/1.1  200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 099 Odd\r\n\r\n", 99),
        (b"HTTP/1.1 999 Odd\r\n\r\n", 999),
        (b"HTTP/1.1 200 OK\n\n", 200),
        (b"HTTP/1.1 200 OK\nA: b\n\n", 200),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nA:\r\nB:\xff\xfe\r\n\r\n", 200),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 503 No\r\n\r\n", 503),
    ],
)
def test_status_of(head: bytes, status: int) -> None:
    assert read(head, ended=False).status == status


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", 'the answer is not HTTP/1: "SSH-2.0-OpenSSH_9.6"'),
        (b"<html>hello", 'the answer is not HTTP/1: "<html>hello"'),
        (b"HTTP/2 200\r\n\r\n", 'the answer is not HTTP/1: "HTTP/2 200"'),
        (b"\0\0\x12\x04\0\0\0\0\0", "the answer is not HTTP/1"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "the answer is not HTTP/1"),
        (b"HTTP/1.1 -1 No\r\n\r\n", 'the answer has no valid status line: "HTTP/1.1 -1 No"'),
        (b"HTTP/1.1 1000 No\r\n\r\n", "the answer has no valid status line"),
        (b"HTTP/1.1 99 No\r\n\r\n", "the answer has no valid status line"),
        (b"HTTP/1.1 OK\r\n", "the answer has no valid status line"),
        (b"HTTP/1.1 200OK\r\n\r\n", "the answer has no valid status line"),
        (b"HTTP/1.1\r\n\r\n", "the answer has no valid status line"),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", "the answer has no valid status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 'the answer has a malformed header: "no colon"'),
        (
            b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            'the answer has a malformed header: "A: b\N{REPLACEMENT CHARACTER}c"',
        ),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", 'the answer has a malformed header: "A : b"'),
        (b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", "the answer has a malformed header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", 'the answer has no valid content-length: "-5"'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "the answer has no valid content-length"),
        (b"", "the connection was closed without an answer"),
        (b"HTT", "the connection was closed within the headers of the answer"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", "the connection was closed within the headers of the answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection was closed within the headers of the answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\nnonsense", 'the answer is not HTTP/1: "nonsense"'),
    ],
)
def test_no_answer_because(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedAnswerError) as caught:
        read(raw)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("raw", [b"S", b"HTTP/1.1 OK\r\n", b"HTTP/2"])
def test_what_can_never_become_an_answer_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        read(raw, ended=False)


@pytest.mark.parametrize(
    "raw", [b"H", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nA: b\r\n", b"HTTP/1.1 100 C\r\n\r\n"]
)
def test_what_may_become_an_answer_is_waited_for(raw: bytes) -> None:
    answer = read(raw, ended=False)
    assert (answer.status, answer.complete) == (None, False)


def test_endless_headers_are_given_up_at_the_limit() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\n", ended=False)
    with pytest.raises(MalformedAnswerError, match="the headers of the answer are longer than 64 KiB"):
        feed_often(answer, b"X: y\r\n")


def test_one_huge_header_is_given_up_at_the_limit() -> None:
    with pytest.raises(MalformedAnswerError, match="longer than 64 KiB"):
        read(b"HTTP/1.1 200 OK\r\nA: " + b"x" * HEAD_LIMIT + b"\r\n\r\n")


def test_a_huge_status_line_is_given_up_at_the_limit() -> None:
    with pytest.raises(MalformedAnswerError, match="longer than 64 KiB"):
        read(b"HTTP/1.1 200 " + b"x" * HEAD_LIMIT, ended=False)


def test_interim_answers_without_end_are_given_up_at_the_limit() -> None:
    answer = Answer()
    with pytest.raises(MalformedAnswerError, match="longer than 64 KiB"):
        feed_often(answer, b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "raw", "text"),
    [
        (b"Content-Length: 5", b"hello, and more", "hello"),
        (b"content-LENGTH:5", b"hello", "hello"),
        (b"A: b", b"until the end", "until the end"),
        (b"Content-Length: 50", b"short", "short"),
        (CHUNKED, b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n", "hello!"),
        (CHUNKED, b"5\nhello\n0\n\n", "hello"),
        (CHUNKED, b"5\r\nhello\r\nzz\r\nmore", "hello"),
        (CHUNKED, b"ffffffffffffff\r\nhello", "hello"),
        (CHUNKED + b"\r\nContent-Length: 2", b"5\r\nhello\r\n0\r\n\r\n", "hello"),
        (b"A: b", b"\x1b[31mred\x00\r\nnext\tline \xff", f"{ODD}[31mred{ODD} next line {ODD}"),
        (b"A: b", "Überall \u202egut\u2028".encode(), f"Überall {ODD}gut"),
    ],
)
def test_body_is_shown_as(headers: bytes, raw: bytes, text: str) -> None:
    assert body(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + raw) == text


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    assert body(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\nhello" % status) == ""


def test_a_compressed_body_is_named_and_never_decoded() -> None:
    bomb = gzip.compress(bytes(1024 * 1024))[:BODY_LIMIT]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    assert body(head + bomb) == f"({len(bomb)} bytes of gzip)"


@pytest.mark.parametrize(
    ("raw", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello", False),
    ],
)
def test_body_is_complete_before_the_connection_ends(raw: bytes, *, complete: bool) -> None:
    assert read(raw, ended=False).complete is complete


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000000", b"X: y", b"Transfer-Encoding: chunked\r\n\r\nfffff"]
)
def test_row_47_payload_is_truncated_and_then_complete(framing: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + framing + (b"\r\n" if b"chunked" in framing else b"\r\n\r\n")
    answer = read(head + b"x" * (BODY_LIMIT + 1), ended=False)
    assert answer.complete
    assert answer.text(BODY_LIMIT) == "x" * BODY_LIMIT


def test_row_48_payload_below_the_limit_is_whole() -> None:
    assert body(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BODY_LIMIT - 1)) == "x" * (BODY_LIMIT - 1)


def test_memory_stays_bounded_whatever_is_sent() -> None:
    flood = b"1;" + b"x" * 4000 + b"\r\ny\r\n"
    answer = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ended=False)
    tracemalloc.start()
    for _ in range(3000):
        answer.feed(flood, ended=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * HEAD_LIMIT


LIKELY = st.lists(
    st.sampled_from(
        [b"HTTP/1.1 ", b"200", b" OK", b"100", b"302", b"\r\n", b"\n", b"\r", b" ", b"A", b":", b"5", b"0",
         b";", b"Content-Length:", CHUNKED, b"Location: /x", b"hello", b"\0", b"\xff"]
    ),
    max_size=40,
).map(b"".join)  # fmt: skip


def outcome(parts: list[bytes]) -> tuple[int | None, bool, str]:
    try:
        answer = read(*parts)
    except MalformedAnswerError as error:
        return None, True, str(error) and "malformed"
    return answer.status, answer.complete, answer.text(BODY_LIMIT)


@given(raw=st.one_of(st.binary(max_size=200), LIKELY, LIKELY.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest)))
def test_any_bytes_are_an_answer_or_malformed(raw: bytes) -> None:
    status, complete, _ = outcome([raw])
    assert complete
    assert status is None or 0 <= status <= 999


@given(
    raw=st.one_of(LIKELY, LIKELY.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest)),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_it_does_not_matter_where_the_bytes_are_cut(raw: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(raw)]
    parts = [raw[a:b] for a, b in pairwise(edges)]
    assert outcome(parts) == outcome([raw])
