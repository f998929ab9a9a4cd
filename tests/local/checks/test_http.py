"""HTTP checks against a real server: the rows of the case table."""

import asyncio

import pytest
from kit.talk import Reader, Writer, hang, ok, to

from hale import __version__
from hale.core.probe import HttpAction, Probe, ProbeKind, ProbeResult
from hale.local.checks import Checker, Target
from hale.local.checks.body import BODY_LIMIT
from hale.local.checks.text import SHOWN

pytestmark = pytest.mark.real_time


async def test_row_33_proxies_of_the_environment_are_not_asked(serve, ask, monkeypatch) -> None:
    proxy, site = await serve(ok(b"proxy")), await serve(ok(b"site"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    result = await ask(site)
    assert (result.detail, proxy.requests) == ("site", [])


async def test_row_34_plain_200_is_a_success_and_its_body_the_detail(serve, ask) -> None:
    result = await ask(await serve(ok(b"ok body")))
    assert (result.ok, result.status, result.detail, result.warning) == (True, 200, "ok body", "")


async def test_row_35_the_server_sees_the_default_headers_and_no_others(serve, ask) -> None:
    site = await serve(ok())
    await ask(site)
    assert site.headers() == [
        ("Host", f"127.0.0.1:{site.port}"),
        ("User-Agent", f"hale-probe/{__version__}"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ]


@pytest.mark.parametrize("value", ["gzip", "foo", ""])
async def test_row_36_accept_encoding_is_sent_as_given(serve, ask, value: str) -> None:
    site = await serve(ok())
    await ask(site, headers=(("Accept-Encoding", value),))
    assert site.header("Accept-Encoding") == [value]


async def test_row_37_own_header_is_sent(serve, ask) -> None:
    site = await serve(ok())
    await ask(site, headers=(("X-Muffins-Or-Cupcakes", "muffins"),))
    assert site.header("X-Muffins-Or-Cupcakes") == ["muffins"]


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ((("User-Agent", "foo/1.0"),), ["foo/1.0"]),
        ((("User-Agent", ""),), []),
        ((), [f"hale-probe/{__version__}"]),
    ],
)
async def test_row_38_user_agent(serve, ask, headers, seen: list[str]) -> None:
    site = await serve(ok())
    await ask(site, headers=headers)
    assert site.header("User-Agent") == seen


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ((("Accept", "text/html"),), ["text/html"]),
        ((("Accept", "foo/*"),), ["foo/*"]),
        ((("Accept", ""),), []),
        ((), ["*/*"]),
        ((("Accept", "a/b"), ("X-Other", "1")), ["a/b"]),
    ],
)
async def test_row_39_accept(serve, ask, headers, seen: list[str]) -> None:
    site = await serve(ok())
    await ask(site, headers=headers)
    assert site.header("Accept") == seen
    assert site.header("X-Other") == [value for name, value in headers if name == "X-Other"]


async def test_row_40_the_server_sees_the_host_header(serve, ask) -> None:
    site = await serve(ok())
    result = await ask(site, headers=(("Host", "muffins.cupcakes.org"),))
    assert (result.ok, site.header("Host")) == (True, ["muffins.cupcakes.org"])


@pytest.mark.parametrize(
    ("status", "success"), [(200, True), (204, True), (399, True), (400, False), (404, False), (500, False)]
)
async def test_row_41_success_is_from_200_to_399(serve, ask, status: int, *, success: bool) -> None:
    result = await ask(await serve(ok(b"", status)))
    assert (result.ok, result.status) == (success, status)


@pytest.mark.parametrize("status", ["-1", "99", "1000", "2OO", ""])
async def test_row_41_a_status_that_is_none_is_a_failure(serve, ask, status: str) -> None:
    result = await ask(await serve(f"HTTP/1.1 {status} No\r\n\r\n".encode()))
    assert (result.ok, result.status) == (False, None)
    assert result.detail.startswith("the answer has no valid status line")


async def test_row_42_a_late_answer_is_a_failure_when_the_timeout_is_over(serve, ask) -> None:
    result = await ask(await serve(hang), timeout=0.2)
    assert (result.ok, result.status, result.detail) == (False, None, "no answer within 200 ms")
    assert 0.19 < result.latency < 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("end", "success"), [(200, True), (500, False)])
async def test_row_43_redirects_are_followed(serve, ask, status: int, end: int, *, success: bool) -> None:
    site = await serve(lambda path: to("/end", status) if path == "/" else ok(b"end", end))
    result = await ask(site)
    assert (result.ok, result.status, result.detail, result.warning) == (success, end, "end", "")
    assert site.paths == ["/", "/end"]


@pytest.mark.parametrize("body", [b"", b"ok body"])
async def test_row_44_3xx_at_the_end_is_a_success_with_a_warning(serve, ask, body: bytes) -> None:
    site = await serve(lambda path: to("/end") if path == "/" else ok(body, 308))
    result = await ask(site)
    assert (result.ok, result.status, result.detail) == (True, 308, body.decode())
    assert "308" in result.warning


@pytest.mark.parametrize(("path", "success"), [("/success", True), ("/fail", False)])
async def test_row_45_redirect_on_the_same_server(serve, ask, path: str, *, success: bool) -> None:
    answers = {"/": to(path), "/success": ok(), "/fail": ok(b"", 500)}
    assert (await ask(await serve(answers.__getitem__))).ok is success


@pytest.mark.parametrize(("status", "success"), [(200, True), (500, False)])
async def test_row_45_redirect_to_another_port_is_followed(serve, ask, status: int, *, success: bool) -> None:
    other = await serve(ok(b"other", status))
    result = await ask(await serve(to(f"http://127.0.0.1:{other.port}/x")))
    assert (result.ok, result.status, result.detail) == (success, status, "other")


async def test_rows_45_and_72_redirect_to_another_host_is_not_followed_but_a_success(serve, ask) -> None:
    other = await serve(ok(b"", 500), host="0.0.0.0")
    site = await serve(to(f"http://0.0.0.0:{other.port}/fail"))
    result = await ask(site)
    assert (result.ok, result.status, other.requests) == (True, 302, [])
    assert f"http://0.0.0.0:{other.port}/fail leads to another host" in result.warning


async def test_row_45_a_redirect_loop_is_a_failure_after_10_requests(serve, ask) -> None:
    site = await serve(to("/again"))
    result = await ask(site)
    assert (result.ok, result.status, len(site.requests)) == (False, 302, 10)
    assert result.detail.startswith("the redirects do not end")


async def test_10_requests_in_a_chain_are_not_too_many(serve, ask) -> None:
    site = await serve(lambda path: ok() if path == "/9" else to(f"/{int(path[1:] or 0) + 1}"))
    result = await ask(site)
    assert (result.ok, len(site.requests)) == (True, 10)


@pytest.mark.parametrize("wanted", ["muffins.org", "other.org"])
async def test_row_46_host_header_is_kept_after_a_redirect(serve, ask, wanted: str) -> None:
    async def talk(_reader: Reader, writer: Writer) -> None:
        right = site.header("Host") == [wanted]
        writer.write(to("/end") if site.paths[-1] == "/" else ok(b"", 200 if right else 400))

    site = await serve(talk)
    result = await ask(site, headers=(("Host", "muffins.org"),))
    assert result.ok is (wanted == "muffins.org")


async def test_row_46_host_header_is_not_kept_after_an_absolute_redirect(serve, ask) -> None:
    site = await serve(lambda path: to(f"http://127.0.0.1:{site.port}/end") if path == "/" else ok())
    await ask(site, headers=(("Host", "muffins.org"),))
    assert site.header("Host") == [f"127.0.0.1:{site.port}"]


@pytest.mark.parametrize(("status", "shown"), [(200, SHOWN), (500, BODY_LIMIT)])
async def test_row_47_payload_is_truncated(serve, ask, status: int, shown: int) -> None:
    result = await ask(await serve(ok(b"x" * (BODY_LIMIT + 1), status)))
    assert (result.status, result.detail) == (status, "x" * shown)


async def test_row_48_payload_of_a_failure_is_shown_whole(serve, ask) -> None:
    result = await ask(await serve(ok(b"x" * (BODY_LIMIT - 1), 503)))
    assert result.detail == "x" * (BODY_LIMIT - 1)


async def test_row_51_a_declared_port_is_asked_at_the_actual_one(serve, checker: Checker) -> None:
    first, second = await serve(ok(b"first")), await serve(ok(b"second"))
    target = Target("r1", "127.0.0.1", {8000: first.port, 9000: second.port})
    details = []
    for declared in (None, 8000, 9000, second.port):
        answered: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
        probe = Probe(ProbeKind.LIVENESS, HttpAction("/", port=declared), timeout=20)
        checker.begin(probe, target, answered.set_result)
        details.append((await answered).detail)
    assert details == ["first", "first", "second", "second"]


async def test_row_62_a_closed_port_is_a_failure(ask, free_port: int) -> None:
    result = await ask(free_port)
    assert (result.ok, result.status, result.detail, result.warning) == (
        False,
        None,
        "connection refused",
        "",
    )
