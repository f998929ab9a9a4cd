"""A daemon that answers from a script."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "right"


class Script:
    """Answers by method and path: a JSON value, a (status, value) pair, bytes, or what a function makes."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.url = ""

    def on(self, method: str, path: str, answer: Any) -> None:
        self.answers[method, path] = answer

    def page(self, path: str, *items: Any) -> None:
        self.on("GET", path, {"items": list(items), "hasMore": False, "nextPage": None})

    def bodies(self, method: str, path: str) -> list[Any]:
        return [body for asked, at, _, body in self.asked if (asked, at) == (method, path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    script: Script

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/v1")
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.script.asked.append((self.command, path, query, json.loads(raw) if raw else None))
        if path != "/health" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"code": "UNAUTHORIZED", "message": "no"})
        answer = self.script.answers.get((self.command, path))
        if callable(answer):
            answer = answer(query)
        if answer is None:
            return self._send(404, {"code": "NOT_FOUND", "message": f"cannot find {path}: no such thing"})
        if isinstance(answer, tuple):
            return self._send(*answer)
        return self._send(200, answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 # as http.server wants it

    def _send(self, status: int, answer: Any) -> None:
        stream = self.headers.get("Accept") == "text/event-stream" and isinstance(answer, bytes)
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        if stream:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Silent."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Hale = Callable[..., Done]
