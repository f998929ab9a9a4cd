"""Fixtures: the scripted daemon, and the command line run against it."""

import io
import os
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from cli.scripted import TOKEN, Done, Hale, Handler, Script

from hale.cli import main


@pytest.fixture
def script() -> Iterator[Script]:
    """A scripted daemon on loopback."""
    script = Script()
    handler = type("Handler", (Handler,), {"script": script})
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


@pytest.fixture
def env(script: Script, tmp_path: Path) -> dict[str, str]:
    """The environment that leads to the scripted daemon and to nothing else of this machine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path),
        "HALE_DATA": str(tmp_path / "data"),
        "HALE_API_URL": script.url,
        "HALE_TOKEN": TOKEN,
    }


@pytest.fixture
def hale(env: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hale:
    """Runs a command to its end in this process, its output not a terminal."""

    def run(*arguments: str, stdin: str = "", **more: str) -> Done:
        with monkeypatch.context() as patch:
            for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
                patch.delenv(name, raising=False)
            for name, value in (env | more).items():
                patch.setenv(name, value)
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
            code = main.run(list(arguments))
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run
