"""What a check asks: the request of an HTTP check, and where a redirect leads. Pure.

The rules are those of Kubernetes' HTTP probe and of the Go client beneath it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from hale import __version__
from hale.core.probe import HttpAction
from hale.local.checks.text import SHOWN, harmless

USER_AGENT = f"hale-probe/{__version__}"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BROKEN_VALUE = re.compile(r"[\r\n\0]")
_BROKEN_PATH = re.compile(r"[\x00-\x1f\x7f]|%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*")

_PATH_SAFE = "/!$&'()*+,;=:@[]~"
_QUERY_SAFE = "".join(chr(code) for code in range(0x21, 0x7F))

_OURS = frozenset({"Host", "User-Agent", "Accept"})
_IGNORED = frozenset({"Content-Length", "Transfer-Encoding", "Trailer"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}


class RequestError(Exception):
    """A request that can't be made, or a redirect that can't be followed: why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One GET. `authority` is host and port as the URL has them, `target` path and query.

    `named` is the Host header that was configured, if one was; `headers` are the other configured ones.
    """

    host: str
    port: int
    authority: str
    target: str
    secure: bool = False
    named: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.target}"

    def encode(self) -> bytes:
        """The bytes on the wire."""
        lines = [f"GET {self.target} HTTP/1.1", f"Host: {self.named or self.authority}"]
        lines += (f"{name}: {value}" for name, value in self._sent())
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _sent(self) -> Iterator[tuple[str, str]]:
        agent = self._first("User-Agent", USER_AGENT)
        if agent:
            yield "User-Agent", agent
        if self._first("Accept", "*/*"):
            yield from self._all("Accept") or [("Accept", "*/*")]
        yield from (header for header in self.headers if header[0] not in _OURS)
        connections = [value.lower().split(",") for _, value in self._all("Connection")]
        if not any(token.strip() == "close" for tokens in connections for token in tokens):
            yield "Connection", "close"

    def _all(self, name: str) -> list[tuple[str, str]]:
        return [header for header in self.headers if header[0] == name]

    def _first(self, name: str, default: str) -> str:
        return next((value for own, value in self.headers if own == name), default)


def first_request(action: HttpAction, host: str, port: int) -> Request:
    """The request that a check begins with; RequestError names a header that can't be sent."""
    headers = tuple(_headers(action.headers))
    named = next((value for name, value in headers if name == "Host"), "")
    authority = f"{_bracketed(host)}:{port}"
    return Request(host, port, authority, request_target(action.path), named=named, headers=headers)


def request_target(path: str) -> str:
    """A configured path as a request line carries it: query kept, fragment and host dropped, escaped."""
    if _BROKEN_PATH.search(path.partition("#")[0].partition("?")[0]):
        # Not a URL: then all of it is a path.
        return _rooted(quote(path, safe=_PATH_SAFE))
    path = path.partition("#")[0]
    if authority := _AUTHORITY.match(path):
        path = path[authority.end() :]
    return _escaped(path, "utf-8")


def after(request: Request, status: int, location: str) -> tuple[Request | None, str]:
    """What a 3xx answer leads to: the next request, or none and the catch in taking it for a success."""
    if status not in _REDIRECTS or not location:
        return None, f"status {status} is no redirect that can be followed; it counts as a success"
    following = redirected(request, location)
    if following is None:
        return (
            None,
            f"the redirect to {_shown(location)} leads to another host: it counts as a success",
        )
    return following, ""


def redirected(request: Request, location: str) -> Request | None:
    """The request that a redirect asks for; None if it leads to another host, which is not followed.

    The location is read as Latin-1, so that bytes of any encoding are asked for as they came.
    """
    try:
        parts = urlsplit(urljoin(request.url, location))
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise RequestError(f"cannot follow the redirect to {_shown(location)}: {error}") from error
    if host.casefold() != request.host.casefold():
        return None
    if parts.scheme not in _PORTS:
        raise RequestError(f"cannot follow the redirect to {_shown(location)}: {parts.scheme} is not HTTP")
    relative = _SCHEME.match(location) is None
    return replace(
        request,
        port=port or _PORTS[parts.scheme],
        authority=parts.netloc.rpartition("@")[2],
        target=_escaped(_without_fragment(parts), "latin-1"),
        secure=parts.scheme == "https",
        named=request.named if relative else "",
    )


def _shown(location: str) -> str:
    return harmless(location)[:SHOWN]


def _without_fragment(parts: SplitResult) -> str:
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _escaped(path: str, encoding: str) -> str:
    path, mark, query = path.partition("?")
    path = quote(path, safe=_PATH_SAFE + "%", encoding=encoding)
    return _rooted(path) + mark + quote(query, safe=_QUERY_SAFE, encoding=encoding)


def _rooted(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _bracketed(host: str) -> str:
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def _headers(configured: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in configured:
        if _TOKEN.fullmatch(name) is None:
            raise RequestError(f"cannot send the header {name!r}: that is not a header name")
        if _BROKEN_VALUE.search(value):
            raise RequestError(f"cannot send the header {name}: its value has a line break or a NUL")
        canonical = "-".join(part.capitalize() for part in name.split("-"))
        if canonical not in _IGNORED:
            yield canonical, value.strip()
