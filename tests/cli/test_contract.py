"""The command line on hale's own API, over a socket: what one writes the other reads."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cli.scripted import TOKEN, Hale

from hale.api.app import create_app, end_streams
from hale.cli.words import local_time
from hale.clock import Clock
from hale.core.deployment import Project
from hale.core.event import Event, Level, Link
from hale.core.image import Preparation, Progress
from hale.core.outlook import Next
from hale.core.probe import Health, ProbeKind, ProbeResult, Verdict
from hale.core.replica import Phase, Replica
from hale.memory.platform import MemoryPlatform
from hale.memory.store import MemoryStore
from hale.ports import LogLine, Observation
from hale.settings import Settings

pytestmark = pytest.mark.real_time

SPEC = """\
name: web
command: [python, app.py]
resources: {machineType: C4, ports: [8000], replicas: 2}
"""
R1 = "7f3a91c2-0000-4000-8000-000000000001"


class Server:
    """The API in a thread, on the memory implementations."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.platform = MemoryPlatform(self.store)
        self.downs: list[str] = []
        self.url = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(60)

    def end(self) -> None:
        """Repeatable."""
        if not self._thread.is_alive():
            return
        self._server.should_exit = True
        self.loop.call_soon_threadsafe(end_streams, self._app)
        self._thread.join(60)

    def now(self) -> float:
        return self._clock.epoch

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._clock = Clock.start()
        self._app = create_app(
            store=self.store,
            platform=self.platform,
            settings=Settings(),
            clock=self._clock,
            token=TOKEN,
            down=lambda: self.downs.append("down"),
        )
        config = uvicorn.Config(self._app, log_config=None, lifespan="off", ws="none", http="h11")
        self._server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._started.set()
            await self._server.serve(sockets=[listener])

    def do(self, work: Any) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)


@pytest.fixture
def server(env: dict[str, str]) -> Iterator[Server]:
    made = Server()
    made.start()
    env["HALE_API_URL"] = made.url
    yield made
    made.end()


@pytest.fixture
def web(server: Server, hale: Hale) -> str:
    """The id of an applied deployment `web`."""
    assert hale("apply", "-", stdin=SPEC).returncode == 0
    return str(json.loads(hale("list", "--json").stdout)[0]["id"])


def observed(server: Server, deployment_id: str) -> Observation:
    now = server.now()
    cause = (
        Link("exit", now - 9, "exited with code 1 after 2 s"),
        Link("start", now - 8, "attempt 2 started"),
    )
    replica = Replica(
        R1, deployment_id, 1, "key", now - 60, Phase.STARTING, now - 8, attempt=2, restarts=1, cause=cause
    )
    failed = ProbeResult(now - 1, ok=False, latency=0.004, status=503, detail="not [yet]\x1b[2J")
    checks = {
        ProbeKind.STARTUP: Health(Verdict.UNKNOWN, 2, ok=False, results=(failed,)),
        ProbeKind.READINESS: Health.initial(ProbeKind.READINESS),
    }
    thresholds = {ProbeKind.STARTUP: 6, ProbeKind.READINESS: 3}
    upcoming = Next("restart", now + 3600, "2 of 6 startup failures")
    return Observation(replica, "127.0.0.1:41233", 4121, checks, thresholds, upcoming)


def test_list_shows_what_was_applied(web: str, hale: Hale) -> None:
    row = hale("list").stdout.splitlines()[1]
    assert row.split() == ["web", "rolling", "out", "0/2", "1", "0", "s", "http://web.localhost:8080/"]


def test_get_shows_what_the_platform_observes(server: Server, web: str, hale: Hale) -> None:
    server.platform.observations[web] = [observed(server, web)]
    text = hale("get", "web").stdout
    assert "7f3a91c2  starting for " in text
    assert "not ready: 2 of 6 startup failures, " in text
    assert '503 in 4 ms: "not [yet]\\x1b[2J"' in text
    assert "exited with code 1 after 2 s" in text
    assert "pid 4121, 127.0.0.1:41233" in text
    assert json.loads(hale("get", "web", "--json").stdout)["replicas"][0]["id"] == R1


def test_events_of_every_page_are_shown(server: Server, web: str, hale: Hale) -> None:
    events = [
        Event(server.now(), "replica.x", f"number {n}", web, 1, R1, 1, Level.WARNING) for n in range(150)
    ]
    server.do(server.store.append(events))
    lines = hale("events", "web").stdout.splitlines()
    assert [line.partition("  ")[2] for line in lines][-150:] == [f"7f3a91c2  number {n}" for n in range(150)]
    assert json.loads(hale("events", "web", "--json").stdout)[-1]["message"] == "number 149"


def test_logs_of_every_page_are_shown_once(server: Server, web: str, hale: Hale) -> None:
    replica = Replica(R1, web, 1, "key", server.now())
    server.do(server.store.put_replicas([(replica, {})]))
    server.platform.lines[R1] = [LogLine(R1, 1, server.now(), n, f"line {n}") for n in range(300)]
    lines = hale("logs", "web", "--replica", "7f").stdout.splitlines()
    assert lines == [f"line {n}" for n in range(300)]
    assert hale("logs", "web", "--replica", "8f").returncode == 1


def test_the_last_lines_of_a_log_with_their_time(server: Server, web: str, hale: Hale) -> None:
    other = R1.replace("7f3a", "8f3a")
    for each in (R1, other):
        server.do(server.store.put_replicas([(Replica(each, web, 1, "key", server.now()), {})]))
    server.platform.lines[R1] = [LogLine(R1, 1, server.now() + n, n, f"line {n}") for n in range(300)]
    server.platform.lines[other] = [LogLine(other, 1, server.now() - 9, 0, "long ago")]
    assert hale("logs", "web", "--tail", "2").stdout == "7f3a91c2 | line 298\n7f3a91c2 | line 299\n"
    assert [each["message"] for each in json.loads(hale("logs", "web", "-n", "1", "--json").stdout)] == [
        "line 299"
    ]
    assert hale("logs", "web", "--tail", "0").stdout == ""
    (line,) = hale("logs", "web", "-t", "--replica", "8f").stdout.splitlines()
    assert line == f"{local_time(server.now() - 9)}  long ago"


def test_a_registry_is_kept_replaced_and_removed(server: Server, hale: Hale) -> None:
    add = ["registry", "add", "corp", "--url", "registry.example.org:5000", "--username"]
    assert hale(*add, "one", stdin="s3cret\n").returncode == 0
    assert hale(*add, "two", "--namespace", "team", stdin="s3cret2\n").returncode == 0
    (row,) = json.loads(hale("registry", "list", "--json").stdout)
    assert (row["name"], row["username"], row["namespace"], row["kind"]) == ("corp", "two", "team", "other")
    assert "s3cret" not in json.dumps(row)
    assert hale("registry", "remove", "corp").returncode == 0
    assert json.loads(hale("registry", "list", "--json").stdout) == []


@pytest.mark.parametrize("scope", [[], ["--team"]])
def test_a_secret_is_kept_changed_used_and_removed(server: Server, hale: Hale, scope: list[str]) -> None:
    assert hale("secret", "set", "KEY", *scope, stdin="hush\n").stderr.endswith(": set\n")
    assert "changed" in hale("secret", "set", "KEY", *scope, stdin="hush2").stderr
    spec = SPEC + "env: [{name: K, value: 'secret:KEY'}]\n"
    assert hale("apply", "-", stdin=spec).returncode == 0
    assert hale("secret", "list", *scope).stdout.splitlines()[1].split()[:2] == ["KEY", "yes"]
    assert "hush" not in hale("secret", "list", *scope, "--json").stdout
    removed = hale("secret", "remove", "KEY", *scope)
    assert (removed.returncode, "warning: web used it: " in removed.stderr) == (0, True)
    gone = hale("secret", "remove", "KEY", *scope)
    assert (gone.returncode, "there is none of that name" in gone.stderr) == (1, True)


def test_get_and_list_show_what_is_pulled(server: Server, web: str, hale: Hale) -> None:
    progress = Progress(3, 5, 41_000_000, 120_000_000)
    server.platform.preparations[web] = Preparation(1, "pulling web:2", server.now(), progress)
    assert "3 of 5 layers, 41 of 120 MB" in hale("get", "web").stdout
    assert hale("list").stdout.splitlines()[1].split()[1] == "pulling"
    waiting = Preparation(
        1, "pulling web:2", server.now(), progress, 1, "cannot pull web:2: no", server.now() + 99
    )
    server.platform.preparations[web] = waiting
    assert ": cannot pull web:2: no" in hale("get", "web").stdout
    assert hale("list").stdout.splitlines()[1].split()[1] == "waiting"


def test_a_project_is_meant_by_its_id_first_and_never_by_a_name_that_two_have(
    server: Server, web: str, hale: Hale
) -> None:
    for project_id, name in (("p1", "default"), ("p2", "twice"), ("p3", "twice")):
        server.do(server.store.put_project(Project(project_id, name, server.now())))
    assert [each["id"] for each in json.loads(hale("list", "--project", "default", "--json").stdout)] == [web]
    refused = hale("list", "--project", "twice")
    assert refused.returncode == 1
    assert "cannot tell which project twice is meant: there are p3, p2" in refused.stderr


def test_no_log_line_has_power_over_a_terminal(server: Server, web: str, hale: Hale) -> None:
    text = "\x1b[2J \x9b2J \x7f \u202e reversed, é"
    server.do(server.store.put_replicas([(Replica(R1, web, 1, "key", server.now()), {})]))
    server.platform.lines[R1] = [LogLine(R1, 1, server.now(), 0, text)]
    assert hale("logs", "web", "--replica", "7f").stdout == "\\x1b[2J \\x9b2J \\x7f \\u202e reversed, é\n"
    document = hale("logs", "web", "--json").stdout
    assert json.loads(document)[0]["message"] == text
    assert set(document) & set(text) == set(" [2Jreversd,é")


def test_scale_rollback_and_history_agree(web: str, hale: Hale) -> None:
    assert hale("scale", "web", "5").returncode == 0
    assert hale("rollback", "web", "1").stderr == "web: revision 3 is as revision 1\n"
    history = json.loads(hale("history", "web", "--json").stdout)
    assert [(each["revision"], each["replicas"], each["current"]) for each in history] == [
        (3, 2, True),
        (2, 5, False),
        (1, 2, False),
    ]
    assert "3 (current)" in hale("history", "web").stdout
    assert hale("rollback", "web").stderr == "web: revision 4 is as revision 2\n"
    refused = hale("rollback", "web", "9")
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: cannot roll web back to revision 9: there is none\n"
        "hint: `hale history web` shows its revisions\n"
    )


def test_restart_and_delete(server: Server, web: str, hale: Hale) -> None:
    assert hale("restart", "web").returncode == 0
    assert hale("delete", "web").returncode == 0
    assert hale("get", "web").returncode == 1
    assert hale("list").stdout == ""


def test_what_the_platform_cannot_run_is_refused_with_the_reason(server: Server, hale: Hale) -> None:
    server.platform.refusal = "image: no container engine; --engine process runs the command"
    done = hale("apply", "-", stdin=SPEC)
    assert done.returncode == 1
    assert "image: no container engine; --engine process runs the command" in done.stderr


def test_waiting_follows_the_stream_until_healthy(server: Server, web: str, hale: Hale) -> None:
    def later() -> None:
        (newest, *_) = server.do(server.store.revisions(web))
        healthy = type(newest)(
            **{name: getattr(newest, name) for name in newest.__slots__} | {"healthy_at": 1.0}
        )
        server.do(server.store.put_revision(healthy))
        server.do(
            server.store.append([Event(server.now(), "revision.healthy", "all is well", web, newest.number)])
        )
        server.loop.call_soon_threadsafe(server.platform.wake, web)

    timer = threading.Timer(1.5, later)
    timer.start()
    done = hale("apply", "-", "--wait", stdin=SPEC.replace("app.py", "other.py"))
    timer.join()
    assert done.returncode == 0
    assert done.stdout.endswith("all is well\n")
    assert done.stderr == "web is healthy: http://web.localhost:8080/\n"


def test_down_is_asked_for(server: Server, hale: Hale, tmp_path: Path) -> None:
    ending = threading.Thread(target=lambda: (wait_for(server), server.end()))
    ending.start()
    done = hale("down")
    ending.join()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "hale is down")


def wait_for(server: Server) -> None:
    pause = threading.Event()
    while not server.downs:
        pause.wait(0.01)
