"""Speaks to the daemon over HTTP, and finds it: HALE_API_URL and HALE_TOKEN, else the data folder.

On http.client, not httpx: importing that costs more than everything else `hale list` does.
"""

import fcntl
import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from hale.cli.words import hinted
from hale.errors import HaleError

TIMEOUT = 30.0
"""Seconds that an answer may take; a stream says something every 15 s at least."""

_LOOPBACK = ("127.", "localhost", "::1")
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 # what a daemon may be bound to, never what we bind


class UnreachableError(HaleError):
    """The server did not answer."""


class NoDaemonError(UnreachableError):
    """There is none on the data folder."""


class AnswerError(HaleError):
    """The server answered no. `status` is HTTP's; `issues` are all that is wrong with what was sent."""

    def __init__(self, message: str, *, status: int, hint: str = "", issues: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.issues = issues


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon is: its URL (without `/v1`) and the token, None if we have none."""

    url: str
    token: str | None

    def __post_init__(self) -> None:
        # http.client would say so too, and show the token.
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise HaleError("cannot use the token: it has characters that no token has")


def find(data: Path) -> Place:
    """The daemon that the environment names, or the one that has written its address to the data folder."""
    url = os.environ.get("HALE_API_URL", "").strip()
    token = os.environ.get("HALE_TOKEN", "").strip() or None
    if url:
        url = _checked(url)
        # A token of this machine is not for another one.
        if token is None and (urlsplit(url).hostname or "").startswith(_LOOPBACK):
            token = _read(data / "token")
        return Place(url, token)
    return Place(_url_in(data), token or _read(data / "token"))


def find_in(data: Path) -> Place:
    """The daemon that has written its address and its token to the data folder."""
    return Place(_url_in(data), _read(data / "token"))


def _url_in(data: Path) -> str:
    address = _read(data / "api")
    if address is None or _abandoned(data):
        raise no_daemon(data)
    host, _, port = address.rpartition(":")
    return f"http://{_ANY.get(host, host)}:{port}"


def _abandoned(data: Path) -> bool:
    """Whether no daemon holds the folder: its address may be anyone's by now, and is not to get the token."""
    try:
        descriptor = os.open(data / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def named_by_environment() -> bool:
    return bool(os.environ.get("HALE_API_URL", "").strip())


def no_daemon(data: Path) -> NoDaemonError:
    return NoDaemonError(
        f"cannot reach hale: no daemon is running on {data}",
        hint="start one with `hale serve`, or apply a spec with `hale up`",
    )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        valid = known and parts.username is None and not parts.query
    except ValueError:
        valid = False
    if not valid:
        raise HaleError(
            "cannot use HALE_API_URL: it is not a URL of http:// or https://, a host and perhaps a port",
            hint="for example HALE_API_URL=http://127.0.0.1:4253",
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise HaleError(
            f"cannot read {path}: {why}", hint="run hale as the user that runs the daemon, or set HALE_TOKEN"
        ) from error


class Client:
    """One connection to the daemon, kept open from call to call. Answers are JSON values."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._url: SplitResult = urlsplit(place.url)
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, **query: object) -> Any:  # Any: what json.loads gives; answers.py reads it
        return self._ask("GET", _with_query(path, query))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        return self._ask("POST", path, {} if body is None else body)

    def patch(self, path: str, body: Mapping[str, object]) -> Any:
        return self._ask("PATCH", path, body)

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        return self._ask("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def items(self, path: str, **query: object) -> Iterator[Any]:
        """Every item of a listing, page after page."""
        while True:
            page = self.get(path, **query)
            with expected(self.place, path):
                items, more, after = page["items"], page["hasMore"], page.get("nextPage")
            yield from items
            if not more or after is None:
                return
            query["after"] = after

    def stream(self, path: str, *, after: str | None = None, **query: object) -> Iterator[tuple[str, str]]:
        """Server-sent events as (id, data), on a connection of their own, until the server closes it."""
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = after
        with self._reached(), closing(self._connect(TIMEOUT)) as connection:
            response = self._send(connection, "GET", _with_query(path, query), None, headers)
            with response:
                if response.status >= 400:
                    self._answer(response, path)
                yield from _sent(response)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        with self._reached():
            kept = self._connection
            if kept is not None:
                try:
                    return self._answer(self._send(kept, method, path, body), path)
                except (http.client.RemoteDisconnected, ConnectionError):
                    self.close()
                    # Whether it was done is not known: only a question may be asked twice.
                    if method != "GET":
                        raise
            self._connection = self._connect(TIMEOUT)
            return self._answer(self._send(self._connection, method, path, body), path)

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=timeout)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        sent = {"Accept": "application/json", **(headers or {})}
        if self.place.token is not None:
            sent["Authorization"] = f"Bearer {self.place.token}"
        text = None
        if body is not None:
            text = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection.request(method, f"{self._url.path}/v1{path}", text, sent)
        return connection.getresponse()

    def _answer(self, response: http.client.HTTPResponse, path: str) -> Any:
        raw = response.read()
        try:
            document = json.loads(raw) if raw else None
        except ValueError:
            document = raw
        if response.status >= 400:
            raise self._refusal(response.status, document)
        if isinstance(document, bytes):
            raise strange(self.place, path)
        return document

    def _refusal(self, status: int, document: object) -> AnswerError:
        if status == 401:
            return AnswerError(
                f"cannot use hale at {self.place.url}: it refuses the token"
                if self.place.token
                else f"cannot use hale at {self.place.url}: it wants a token",
                status=status,
                hint="set HALE_TOKEN to what the daemon wrote to the file `token` in its data folder",
            )
        if not isinstance(document, dict) or not isinstance(document.get("message"), str):
            return AnswerError(f"cannot use {self.place.url}: it answers with status {status}", status=status)
        message, hint = hinted(document["message"])
        issues = [str(each["message"]) for each in document.get("issues") or () if isinstance(each, dict)]
        return AnswerError(
            message,
            status=status,
            hint=hint,
            issues=tuple(issue for issue in issues if issue not in message),
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Translate what can go wrong on the way; a connection with a call broken off is dropped."""
        whole = False
        try:
            yield
            whole = True
        except TimeoutError as error:
            raise UnreachableError(f"cannot reach hale at {self.place.url}: no answer in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(
                f"cannot reach hale at {self.place.url}: {_why(error)}",
                hint="" if named_by_environment() else "is it running? start it with `hale serve`",
            ) from error
        finally:
            if not whole:
                self.close()


@contextmanager
def expected(place: Place, path: str) -> Iterator[None]:
    """An answer that lacks what the API promises is an error of the server, not of ours."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise strange(place, path) from error


def strange(place: Place, path: str) -> AnswerError:
    return AnswerError(
        f"cannot understand the answer of {place.url}/v1{path}: it is not what hale's API says",
        status=200,
        hint="is it a hale daemon of this version? `hale --version` prints ours",
    )


def _why(error: Exception) -> str:
    match error:
        case OSError(strerror=str(text)) if text:
            return text.lower()
        case ConnectionError():  # http.client.RemoteDisconnected is one
            return "it closed the connection without an answer"
        case http.client.IncompleteRead():
            return "it broke off in the middle of an answer"
        case _:
            return f"it does not speak HTTP: {error}".rstrip(": ")


def _with_query(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _sent(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    event_id, data = "", []
    while line := response.readline():
        name, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            event_id = value
        elif name == "data":
            data.append(value)
        elif not name and not value and data:
            yield event_id, "\n".join(data)
            data = []
