"""HTTP checks against servers that do it wrong, by mistake or on purpose."""

import asyncio
import contextlib

import pytest
from kit.talk import HEAD, Reader, Writer, floods, hang, ok, resets, sends, to, trickles

from hale.core.probe import HttpAction, Probe, ProbeKind, ProbeResult
from hale.local.checks import Checker, Target
from hale.local.checks.text import SHOWN
from hale.local.checks.wire import PATIENCE

pytestmark = pytest.mark.real_time

TOO_LONG = "the headers of the answer are longer than 64 KiB"
NO_END = "the headers of the answer did not end within 200 ms"
FTP = "cannot follow the redirect to ftp://127.0.0.1/: ftp is not HTTP"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
BOMB = HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b" + b"\0" * 20_000
ODD = "\N{REPLACEMENT CHARACTER}"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        pytest.param(floods(HEAD, b"X: y\r\n" * 100), TOO_LONG, id="endless headers"),
        pytest.param(floods(HEAD + b"X: ", b"y" * 1000), TOO_LONG, id="endless header"),
        pytest.param(floods(b"", INTERIM * 50), TOO_LONG, id="1xx flood"),
        pytest.param(sends(b"SSH-2.0-x\r\n"), 'the answer is not HTTP/1: "SSH-2.0-', id="ssh"),
        pytest.param(b"hello", 'the answer is not HTTP/1: "hello"', id="HTTP/0.9"),
        pytest.param(b"\0\0\x06\x04\0\0\0\0\0", "the answer is not HTTP/1", id="HTTP/2 settings"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the answer is not HTTP/1", id="HTTP/2 preface"),
        pytest.param(HEAD + b"X: a\0b\r\n\r\nok", "the answer has a malformed header", id="NUL in a header"),
        pytest.param(b"", "the connection was closed without an answer", id="closed at once"),
        pytest.param(HEAD, "the connection was closed within the headers of the answer", id="closed early"),
        pytest.param(resets(b""), "connection reset by peer", id="reset at once"),
        pytest.param(resets(HEAD), "connection reset by peer", id="reset within headers"),
        pytest.param(sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "", id="101"),
        pytest.param(to("ftp://127.0.0.1/"), FTP, id="ftp"),
    ],
)  # fmt: skip
async def test_is_a_failure(serve, ask, answer, detail: str) -> None:
    result = await ask(await serve(answer), timeout=30.0)
    assert (result.ok, result.warning) == (False, "")
    assert result.detail.startswith(detail)
    assert result.latency < 20


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        pytest.param(sends(HEAD), NO_END, id="hanging headers"),
        pytest.param(trickles(HEAD, b"X"), NO_END, id="trickling headers"),
        pytest.param(trickles(b"", INTERIM), NO_END, id="trickling 1xx"),
    ],
)  # fmt: skip
async def test_is_a_failure_when_the_time_is_over(serve, ask, answer, detail: str) -> None:
    result = await ask(await serve(answer), timeout=0.2)
    assert (result.ok, result.status, result.detail) == (False, None, detail)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        pytest.param(sends(HEAD + b"\r\n", b"some"), "some", id="no end of the body"),
        pytest.param(sends(HEAD + b"Content-Length: 99\r\n\r\n", b"some"), "some", id="hanging body"),
        pytest.param(trickles(HEAD + b"\r\n", b"x"), "x", id="trickling body"),
        pytest.param(floods(HEAD + b"\r\n", b"x" * 5000), "x" * SHOWN, id="endless body"),
        pytest.param(HEAD + b"Content-Length: 99\r\n\r\nsome", "some", id="short body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", id="bad chunk"),
        pytest.param(resets(HEAD + b"Content-Length: 99\r\n\r\nsome"), "some", id="reset within the body"),
        pytest.param(BOMB, "(10240 bytes of gzip)", id="gzip bomb"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nold", "old", id="HTTP/1.0"),
        pytest.param(HINTS + ok(b"late"), "late", id="interim answer"),
        pytest.param(sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "", id="204"),
        pytest.param(ok(b"\x1b]0;title\x07red"), f"{ODD}]0;title{ODD}red", id="escapes"),
    ],
)  # fmt: skip
async def test_is_a_success_by_its_status(serve, ask, answer, detail: str) -> None:
    result = await ask(await serve(answer), timeout=30.0)
    assert result.ok
    assert result.detail.startswith(detail)
    assert result.latency < 20


async def test_a_body_that_never_ends_is_no_excuse_for_a_failing_status(serve, ask) -> None:
    result = await ask(await serve(trickles(b"HTTP/1.1 500 No\r\n\r\n", b"x")), timeout=30.0)
    assert (result.ok, result.status) == (False, 500)


async def test_a_body_in_a_second_packet_is_waited_for(serve, ask) -> None:
    async def talk(_reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 23\r\n\r\n")
        await asyncio.sleep(PATIENCE / 5)
        writer.write(b"Readiness check failed.")

    result = await ask(await serve(talk))
    assert (result.status, result.detail) == (503, "Readiness check failed.")


async def test_a_large_body_is_not_read_to_its_end(serve, ask) -> None:
    sent = 0

    async def talk(_reader: Reader, writer: Writer) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536

    result = await ask(await serve(talk))
    assert result.ok
    assert sent < 100_000_000


async def test_one_bad_replica_delays_nobody_else(serve, checker: Checker, ask) -> None:
    bad = [
        await serve(answer)
        for answer in (
            hang,
            floods(HEAD, b"X: y\r\n" * 1000),
            trickles(HEAD, b"x"),
            floods(HEAD + b"\r\n", b"x" * 9999),
        )
    ]
    probe = Probe(ProbeKind.LIVENESS, HttpAction("/"), timeout=20)
    hanging = [
        checker.begin(probe, Target("bad", "127.0.0.1", {1: site.port}), lambda _result: None)
        for site in bad * 20
    ]
    good = await serve(ok(b"good"))
    results = [await ask(good) for _ in range(20)]
    for cancel in hanging:
        cancel()
    assert {result.detail for result in results} == {"good"}
    assert max(result.latency for result in results) < 5


async def test_a_header_that_cannot_be_sent_is_a_failure_that_names_it(serve, ask) -> None:
    site = await serve(ok())
    result = await ask(site, headers=(("X Y", "1"),))
    assert (result.ok, result.detail, site.requests) == (
        False,
        "cannot send the header 'X Y': that is not a header name",
        [],
    )


async def test_a_replica_without_ports_cannot_be_asked(checker: Checker) -> None:
    answered: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
    checker.begin(
        Probe(ProbeKind.LIVENESS, HttpAction("/")), Target("r1", "127.0.0.1", {}), answered.set_result
    )
    result = await answered
    assert (result.ok, result.detail) == (False, "there is no port to check")
