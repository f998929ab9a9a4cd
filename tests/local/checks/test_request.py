import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale import __version__
from hale.core.probe import HttpAction
from hale.local.checks.request import RequestError, after, first_request, redirected, request_target


def lines(*headers: tuple[str, str], path: str = "/", host: str = "127.0.0.1") -> list[str]:
    action = HttpAction(path, headers=headers)
    return first_request(action, host, 8000).encode().decode().split("\r\n")


def test_row_35_default_headers_are_exactly_accept_connection_and_user_agent() -> None:
    assert lines() == [
        "GET / HTTP/1.1",
        "Host: 127.0.0.1:8000",
        f"User-Agent: hale-probe/{__version__}",
        "Accept: */*",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.parametrize("value", ["gzip", "foo", ""])
def test_row_36_accept_encoding_is_sent_as_given(value: str) -> None:
    assert f"Accept-Encoding: {value}" in lines(("accept-encoding", value))


def test_row_37_own_header_is_sent() -> None:
    assert "X-Muffins-Or-Cupcakes: muffins" in lines(("X-Muffins-Or-Cupcakes", "muffins"))


@pytest.mark.parametrize(
    ("given_headers", "sent"),
    [
        ([("User-Agent", "foo/1.0")], ["User-Agent: foo/1.0"]),
        ([("User-Agent", "")], []),
        ([], [f"User-Agent: hale-probe/{__version__}"]),
        ([("user-agent", "a"), ("User-Agent", "b")], ["User-Agent: a"]),
    ],
)
def test_row_38_user_agent_overrides_is_left_out_or_ours(
    given_headers: list[tuple[str, str]], sent: list[str]
) -> None:
    assert [line for line in lines(*given_headers) if line.startswith("User-Agent")] == sent


@pytest.mark.parametrize(
    ("given_headers", "sent"),
    [
        ([("Accept", "text/html")], ["Accept: text/html"]),
        ([("Accept", "foo/*")], ["Accept: foo/*"]),
        ([("Accept", "")], []),
        ([], ["Accept: */*"]),
        ([("X-Other", "1")], ["Accept: */*"]),
        ([("accept", "a/b"), ("ACCEPT", "c/d")], ["Accept: a/b", "Accept: c/d"]),
    ],
)
def test_row_39_accept_overrides_is_left_out_or_anything(
    given_headers: list[tuple[str, str]], sent: list[str]
) -> None:
    assert [line for line in lines(*given_headers) if line.startswith("Accept")] == sent


@pytest.mark.parametrize(
    ("host", "sent"), [("muffins.cupcakes.org", "muffins.cupcakes.org"), ("", "127.0.0.1:8000")]
)
def test_row_40_host_header_is_what_the_server_sees(host: str, sent: str) -> None:
    assert [line for line in lines(("host", host)) if line.startswith("Host")] == [f"Host: {sent}"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/path", "/path"),
        ("?foo", "/?foo"),
        ("/path?bar", "/path?bar"),
        ("path", "/path"),
        ("headers?x=1&y=%2F#frag", "/headers?x=1&y=%2F"),
        ("/a b", "/a%20b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/grüße?ü=1", "/gr%C3%BC%C3%9Fe?%C3%BC=1"),
        ("/50%", "/50%25"),
        ("/50%?x", "/50%25%3Fx"),
        ("http://elsewhere:1/x?y", "/x?y"),
        ("//elsewhere/x", "/x"),
        ("/x//y", "/x//y"),
        ("/x?a=http://b/c", "/x?a=http://b/c"),
        ("/x?a b", "/x?a%20b"),
        ("/x?", "/x?"),
        ("/a\r\nX-Evil: 1", "/a%0D%0AX-Evil:%201"),
        ("/x?a\r\nX-Evil: 1", "/x?a%0D%0AX-Evil:%201"),
    ],
)
def test_row_49_path_is_read_as_a_url_reference(path: str, target: str) -> None:
    assert request_target(path) == target


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("localhost", "localhost:93"),
        ("::1", "[::1]:93"),
        ("fe80::1%eth0", "[fe80::1]:93"),
        ("10.0.0.1", "10.0.0.1:93"),
    ],
)
def test_row_49_port_is_always_written_and_ipv6_is_in_brackets(host: str, authority: str) -> None:
    assert first_request(HttpAction("/"), host, 93).url == f"http://{authority}/"


def test_row_50_names_are_canonical_and_repeated_ones_are_sent_in_order() -> None:
    sent = lines(("x-mixED-case", "1"), ("ACCEPT", "a/a"), ("accept", "b/b"), ("X-Mixed-Case", "2"))
    assert [line for line in sent if line.startswith(("X-", "Accept"))] == [
        "Accept: a/a",
        "Accept: b/b",
        "X-Mixed-Case: 1",
        "X-Mixed-Case: 2",
    ]


@pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding", "TRAILER"])
def test_headers_that_would_promise_a_body_are_ignored(name: str) -> None:
    assert lines((name, "7")) == lines()


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("keep-alive", ["Connection: keep-alive", "Connection: close"]),
        ("close", ["Connection: close"]),
        ("foo, Close", ["Connection: foo, Close"]),
    ],
)
def test_connection_is_closed_whatever_is_configured(value: str, sent: list[str]) -> None:
    assert [line for line in lines(("Connection", value)) if line.startswith("Connection")] == sent


@pytest.mark.parametrize(
    ("name", "value"), [("X Y", "1"), ("", "1"), ("X:", "1"), ("X", "a\r\nY: b"), ("X", "a\0b"), ("X\n", "1")]
)
def test_a_header_that_cannot_be_sent_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(RequestError, match=r"cannot send the header"):
        lines((name, value))


@given(path=st.text(), headers=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4))
def test_nothing_configured_can_add_a_line_to_the_request(path: str, headers: list[tuple[str, str]]) -> None:
    try:
        request = first_request(HttpAction(path, headers=tuple(headers)), "127.0.0.1", 80).encode()
    except RequestError:
        return
    head, blank, rest = request.partition(b"\r\n\r\n")
    assert (blank, rest) == (b"\r\n\r\n", b"")
    assert len(head.split(b"\n")) <= 5 + len(headers)
    assert len(head.split(b"\n")[0].split(b" ")) == 3


START = first_request(HttpAction("/a/b?q=1", headers=(("X-Key", "1"),)), "127.0.0.1", 8000)
NAMED = first_request(HttpAction("/a", headers=(("Host", "muffins"),)), "127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "http://127.0.0.1:8000/x"),
        ("x?y=1", "http://127.0.0.1:8000/a/x?y=1"),
        ("?y", "http://127.0.0.1:8000/a/b?y"),
        ("//127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        ("http://127.0.0.1/x", "http://127.0.0.1/x"),
        ("http://127.0.0.1:9/x#part", "http://127.0.0.1:9/x"),
        ("https://127.0.0.1/x", "https://127.0.0.1/x"),
        ("http://user:secret@127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        ("/x y\xe9", "http://127.0.0.1:8000/x%20y%E9"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/"),
    ],
)
def test_a_redirect_on_the_same_host_leads_to(location: str, url: str) -> None:
    following = redirected(START, location)
    assert following is not None
    assert following.url == url
    assert following.headers == (("X-Key", "1"),)


@pytest.mark.parametrize(
    ("location", "port"), [("http://127.0.0.1/", 80), ("https://127.0.0.1/", 443), ("/x", 8000)]
)
def test_a_redirect_is_dialled_at_the_port_of_its_url(location: str, port: int) -> None:
    following = redirected(START, location)
    assert following is not None
    assert following.port == port


@pytest.mark.parametrize(
    "location", ["http://0.0.0.0/", "//example.org/x", "https://localhost:8000/", "mailto:a@b"]
)
def test_a_redirect_to_another_host_is_not_followed(location: str) -> None:
    assert redirected(START, location) is None


def test_host_names_are_the_same_in_any_case() -> None:
    assert redirected(first_request(HttpAction("/"), "Example.org", 80), "http://eXample.ORG/x") is not None


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "http://127.0.0.1:99999/", "http://[::1/"])
def test_a_redirect_that_cannot_be_followed_is_an_error(location: str) -> None:
    with pytest.raises(RequestError, match=r"cannot follow the redirect"):
        redirected(START, location)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("/x", "muffins"),
        ("//127.0.0.1:8000/x", "muffins"),
        ("http://127.0.0.1:8000/x", "127.0.0.1:8000"),
    ],
)
def test_row_46_custom_host_is_kept_on_a_relative_redirect_only(location: str, host: str) -> None:
    following = redirected(NAMED, location)
    assert following is not None
    assert f"\r\nHost: {host}\r\n" in following.encode().decode()


@pytest.mark.parametrize(
    ("status", "location"), [(300, "/x"), (304, "/x"), (302, ""), (308, ""), (399, "/x")]
)
def test_row_44_other_3xx_is_a_success_with_a_catch(status: int, location: str) -> None:
    following, warning = after(START, status, location)
    assert following is None
    assert warning.startswith(f"status {status} is no redirect")


@given(st.text(st.characters(max_codepoint=255)))
def test_any_location_is_followed_refused_or_elsewhere(location: str) -> None:
    try:
        following = redirected(START, location)
    except RequestError:
        return
    if following is not None:
        request = following.encode()
        assert request.count(b"\r\n\r\n") == 1
        assert len(request.split(b"\r\n")[0].split(b" ")) == 3
