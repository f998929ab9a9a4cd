"""A daemon that answers from a script, and the command line run in its own process."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

TOKEN = "right"
WEB = "11111111-1111-4111-8111-111111111111"
API = "22222222-2222-4222-8222-222222222222"


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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
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

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

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


@pytest.fixture
def script() -> Iterator[Script]:
    """A scripted daemon on loopback."""
    script = Script()
    handler = type("Handler", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    script.on("GET", "/health", "HEALTHY")
    script.page("/projects", {"id": "p1", "name": "default"})
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


Hale = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def env(script: Script, tmp_path: Path) -> dict[str, str]:
    """The environment that leads to the scripted daemon and to nothing else of this machine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path),
        "HALE_DATA": str(tmp_path / "data"),
        "HALE_API_URL": script.url,
        "HALE_TOKEN": TOKEN,
        "PYTHONWARNINGS": "ignore::ResourceWarning",
    }


@pytest.fixture
def hale(env: dict[str, str]) -> Hale:
    """Runs `hale` to its end, in a pipe."""

    def run(*arguments: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "hale.cli.main", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=env | more,
            check=False,
        )

    return run
