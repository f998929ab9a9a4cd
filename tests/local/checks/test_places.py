"""Where checks go: addresses, names, TLS after a redirect."""

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest
from kit.talk import ok, to

from hale.core.probe import HttpAction, ProbeResult
from hale.local.checks.body import BODY_LIMIT
from hale.local.checks.http_check import HttpCheck, plan
from hale.local.checks.names import Names, Places, numeric
from hale.local.checks.reply import Reply
from hale.local.checks.wire import Wire

pytestmark = pytest.mark.real_time


async def test_host_is_the_address_to_dial(serve, ask) -> None:
    site = await serve(ok())
    result = await ask(site, host="127.0.0.1", address="192.0.2.1")
    assert (result.ok, site.header("Host")) == (True, [f"127.0.0.1:{site.port}"])


async def test_ipv6_addresses_are_dialled(serve, ask) -> None:
    try:
        site = await serve(ok(), host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    result = await ask(site, host="::1")
    assert (result.ok, site.header("Host")) == (True, [f"[::1]:{site.port}"])


async def test_a_name_is_looked_up(serve, ask) -> None:
    site = await serve(ok())
    result = await ask(site, host="localhost")
    assert (result.ok, site.header("Host")) == (True, [f"localhost:{site.port}"])


async def test_a_name_that_cannot_be_one_is_a_failure(ask) -> None:
    result = await ask(1, host="x" * 300)
    assert (result.ok, result.warning) == (False, "")
    assert result.detail.startswith("cannot find the host xxx")


async def test_a_lookup_that_hangs_is_bounded_by_the_timeout_and_shared(until) -> None:
    loop = asyncio.get_running_loop()
    looked_up: list[str] = []
    release = threading.Event()

    def look_up(host: str, port: int) -> Places:
        looked_up.append(f"{host}:{port}")
        release.wait(60)
        raise OSError(-2, "Name or service not known")

    wire, names = Wire(loop), Names(loop, look_up)
    results: list[ProbeResult] = []
    try:
        for timeout in (0.1, 0.1, 30.0):
            reply = Reply(results.append, 0.0, eager=False)
            HttpCheck(wire, names, plan(HttpAction("/"), "db.internal", 80), timeout, reply).begin()
        await until(lambda: len(results) == 2)
        release.set()
        await until(lambda: len(results) == 3)
    finally:
        wire.close()
    assert looked_up == ["db.internal:80"]
    assert [result.detail for result in results] == [
        "the host db.internal was not found within 100 ms",
        "the host db.internal was not found within 100 ms",
        "cannot find the host db.internal: name or service not known",
    ]


async def test_a_lookup_that_comes_back_after_the_end_is_not_followed() -> None:
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda _loop, context: raised.append(context))
    release, finished = threading.Event(), asyncio.Event()

    def look_up(_host: str, _port: int) -> Places:
        release.wait(60)
        return numeric("127.0.0.1", 9)

    wire, names = Wire(loop), Names(loop, look_up)
    results: list[ProbeResult] = []
    reply = Reply(results.append, 0.0, eager=False)
    HttpCheck(wire, names, plan(HttpAction("/"), "db.internal", 80), 20.0, reply).begin()
    names.find("db.internal", 80, lambda _places, _problem: finished.set())
    wire.close()
    release.set()
    await finished.wait()
    assert (results, raised) == ([], [])


async def test_the_next_address_is_tried_when_one_refuses(serve, free_port: int) -> None:
    site = await serve(ok(b"second"))
    loop = asyncio.get_running_loop()
    places = (*numeric("127.0.0.1", free_port), *numeric("127.0.0.1", site.port))
    wire, names = Wire(loop), Names(loop, lambda _host, _port: places)
    answered: asyncio.Future[ProbeResult] = loop.create_future()
    try:
        reply = Reply(answered.set_result, 0.0, eager=False)
        HttpCheck(wire, names, plan(HttpAction("/"), "two.internal", 80), 20.0, reply).begin()
        result = await answered
    finally:
        wire.close()
    assert (result.ok, result.detail) == (True, "second")


@pytest.fixture
def tls() -> ssl.SSLContext:
    """A server's context whose certificate is for another name, signed by nobody, and long over."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("wrong-name-expired.pem"))
    return context


@pytest.mark.parametrize("size", [4, 9000, 100_000])
async def test_a_redirect_to_https_is_followed_whatever_the_certificate(serve, ask, tls, size: int) -> None:
    secure = await serve(ok(b"x" * size, 503), ssl=tls)
    result = await ask(await serve(to(f"https://127.0.0.1:{secure.port}/x")))
    assert (result.ok, result.status, result.detail) == (False, 503, "x" * min(size, BODY_LIMIT))


async def test_a_redirect_from_https_back_to_http_is_followed(serve, ask, tls) -> None:
    last = await serve(ok(b"back"))
    secure = await serve(to(f"http://127.0.0.1:{last.port}/"), ssl=tls)
    result = await ask(await serve(to(f"https://127.0.0.1:{secure.port}/x")))
    assert (result.ok, result.detail) == (True, "back")


async def test_a_tls_server_that_hangs_is_bounded_by_the_timeout(serve, ask) -> None:
    silent = await serve(ok())
    result = await ask(await serve(to(f"https://127.0.0.1:{silent.port}/x")), timeout=0.2)
    assert (result.ok, result.detail) == (False, "no connection within 200 ms")


async def test_https_to_a_server_without_tls_is_a_failure(serve, ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asked = asyncio.ensure_future(ask(await serve(to(f"https://127.0.0.1:{port}/x"))))
        conn, _ = await asyncio.to_thread(listener.accept)
        with conn:
            conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            result = await asked
    assert (result.ok, result.status, result.warning) == (False, None, "")
    assert result.detail.startswith("cannot speak TLS: ")


async def test_a_connection_that_takes_its_time_is_waited_for(ask) -> None:
    """The backlog is full at first: the kernel drops our first packet, and we knock again a second later."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            asked = asyncio.ensure_future(ask(port))
            await asyncio.sleep(0.1)
            listener.accept()[0].close()
            conn, _ = await asyncio.to_thread(listener.accept)
            with conn:
                request = await asyncio.to_thread(conn.recv, 65536)
                conn.sendall(ok(b"at last"))
            result = await asked
    assert request.startswith(b"GET / HTTP/1.1\r\n")
    assert (result.ok, result.detail) == (True, "at last")


async def test_a_request_larger_than_the_socket_takes_at_once_is_sent_whole(ask) -> None:
    value = "x" * 8_000_000

    def work() -> int:
        conn, _ = listener.accept()
        with conn:
            received = 0
            end = b""
            while not end.endswith(b"\r\n\r\n"):
                part = conn.recv(1 << 20)
                received += len(part)
                end = (end + part)[-4:]
            conn.sendall(ok(b"read it all"))
        return received

    with socket.create_server(("127.0.0.1", 0)) as listener:
        reading = asyncio.ensure_future(asyncio.to_thread(work))
        result = await ask(listener.getsockname()[1], headers=(("X-Large", value),))
        received = await reading
    assert (result.ok, result.detail) == (True, "read it all")
    assert received > len(value)
