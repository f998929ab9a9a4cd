"""The commands in their own process, against a daemon that answers from a script: output and exit codes."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli import examples as e
from cli.scripted import Hale, Script

from hale.cli import client

pytestmark = pytest.mark.real_time


@pytest.fixture
def web(script: Script) -> Script:
    """A daemon with one deployment, `web`, of three replicas."""
    script.page("/deployments", e.deployment())
    script.on("GET", f"/deployments/{e.WEB}", e.deployment())
    script.on(
        "GET",
        f"/deployments/{e.WEB}/health",
        e.health(e.ready_replica(), e.starting_replica(), e.backoff_replica()),
    )
    script.page(
        f"/deployments/{e.WEB}/events", e.event(1, 60, "started"), e.event(2, 58, "ready, gets traffic")
    )
    script.on("GET", f"/deployments/{e.WEB}/runs", [])
    return script


# --- what goes right ------------------------------------------------------------------------


def test_list_prints_a_table_in_a_pipe_without_colour_or_trailing_blanks(web: Script, hale: Hale) -> None:
    done = hale("list")
    assert done.returncode == 0
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["NAME", "STATUS", "READY", "REV", "AGE", "ENDPOINT"]
    assert row.split()[:4] == ["web", "degraded", "1/3", "3"]
    assert row.endswith("http://web.localhost:8080/")
    assert heading == heading.rstrip()


def test_list_in_a_pipe_cuts_nothing_off(web: Script, hale: Hale) -> None:
    name = "a name of some length " * 11
    web.page("/deployments", e.deployment(name=name))
    assert name.rstrip() in hale("list", COLUMNS="40").stdout


def test_list_as_json_is_one_document(web: Script, hale: Hale) -> None:
    (listed,) = json.loads(hale("list", "--json").stdout)
    assert listed["name"] == "web"
    assert (listed["readyReplicas"], listed["status"], listed["revision"]) == (1, "degraded", 3)


def test_an_empty_list_says_which_kind_of_empty_on_stderr(script: Script, hale: Hale) -> None:
    script.page("/deployments")
    done = hale("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no deployments" in done.stderr
    assert json.loads(hale("list", "--json").stdout) == []


def test_list_asks_for_every_page(web: Script, hale: Hale) -> None:
    pages = {
        None: {"items": [e.deployment(name="one")], "hasMore": True, "nextPage": "c 1&"},
        "c 1&": {"items": [e.deployment(name="two")], "hasMore": False},
    }
    web.on("GET", "/deployments", lambda query: pages[query.get("after")])
    assert [row.split()[0] for row in hale("list").stdout.splitlines()] == ["NAME", "one", "two"]


def test_get_names_phase_checks_causes_and_what_comes_next(web: Script, hale: Hale) -> None:
    text = hale("get", "web").stdout
    assert "7f3a91c2  ready for " in text
    assert '503 in 4 ms: "Startup check failed."' in text
    assert "2 of 6 startup failures" in text
    assert "next restart" in text
    assert "exited with code 0 after 2 h" in text


def test_get_as_json_is_what_the_api_says(web: Script, hale: Hale) -> None:
    expected = web.answers["GET", f"/deployments/{e.WEB}/health"]
    assert json.loads(hale("get", "web", "--json").stdout) == expected


def test_a_deployment_is_found_by_its_id_too(web: Script, hale: Hale) -> None:
    assert hale("get", e.WEB).returncode == 0


def test_events_are_lines_oldest_first(web: Script, hale: Hale) -> None:
    lines = hale("events", "web").stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "7f3a91c2  started",
        "7f3a91c2  ready, gets traffic",
    ]


def test_followed_events_go_on_where_the_known_ones_ended(web: Script, env: dict[str, str]) -> None:
    known = web.answers["GET", f"/deployments/{e.WEB}/events"]
    streamed = b"".join(
        f"id: {event['id']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in [e.event(2, 58, "ready, gets traffic"), e.event(3, 1, "not ready")]
    )
    web.on(
        "GET",
        f"/deployments/{e.WEB}/events",
        lambda query: known if "order" in query else b": hi\n\n" + streamed,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "hale.cli.main", "events", "web", "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
    )
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline())["id"] for _ in range(3)] == [1, 2, 3]
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=30)
    assert (process.returncode, talk) == (130, "")


def test_log_lines_name_their_replica_unless_one_was_asked_for(web: Script, hale: Hale) -> None:
    entry = {
        "id": "1",
        "jobId": "",
        "message": "\x1b[31mhi",
        "dtCreated": "2026-11-28T13:00:00Z",
        "instanceId": e.R1,
    }
    web.page(f"/deployments/{e.WEB}/logs", entry)
    assert hale("logs", "web").stdout == "7f3a91c2 | \\x1b[31mhi\n"
    assert hale("logs", "web", "--replica", "7f3").stdout == "\\x1b[31mhi\n"
    assert web.asked[-1][2]["instanceId"] == e.R1
    assert json.loads(hale("logs", "web", "--json").stdout) == [entry]


def test_history_is_a_table(web: Script, hale: Hale) -> None:
    revision = {
        "revision": 3,
        "id": "s3",
        "createdAt": "2026-11-28T13:00:00Z",
        "appliedAt": None,
        "healthyAt": None,
        "error": None,
        "replicas": 2,
        "enabled": True,
        "image": None,
        "command": ["uvicorn", "app:app"],
        "current": True,
    }
    web.page(f"/deployments/{e.WEB}/revisions", revision)
    assert "3 (current)" in hale("history", "web").stdout
    assert json.loads(hale("history", "web", "--json").stdout) == [revision]


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (["scale", "web", "5"], "PATCH", "", {"replicas": 5}),
        (["restart", "web"], "POST", "/restart", {}),
        (["rollback", "web"], "POST", "/rollback", {}),
        (["rollback", "web", "2"], "POST", "/rollback", {"revision": 2}),
        (["rollback", "web", "s2"], "POST", "/rollback", {"revision": "s2"}),
        (["delete", "web"], "DELETE", "", None),
    ],
)
def test_a_change_is_one_request(
    web: Script, hale: Hale, arguments: list[str], method: str, path: str, body: Any
) -> None:
    web.on(
        method, f"/deployments/{e.WEB}{path}", {"deploymentId": e.WEB, "revision": 4, "id": e.WEB, "like": 2}
    )
    done = hale(*arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("web: ")
    assert web.bodies(method, f"/deployments/{e.WEB}{path}") == [body]


@pytest.mark.parametrize(("replicas", "told"), [("5", True), ("0", False)])
def test_scaling_what_still_waits_for_its_image_says_so_and_the_way_back(
    web: Script, hale: Hale, replicas: str, told: bool
) -> None:
    web.on("GET", f"/deployments/{e.WEB}/health", e.health(preparation=e.waiting()))
    web.on("PATCH", f"/deployments/{e.WEB}", {"deploymentId": e.WEB, "revision": 4, "id": e.WEB})
    done = hale("scale", "web", replicas)
    pulling = "hint: none comes or goes before pulling registry.example.org/team/web:2 is done"
    assert (done.returncode, pulling in done.stderr) == (0, told)


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        (None, "web: its replicas are being replaced\n"),
        (
            e.waiting(),
            "web: its replicas will be replaced once pulling registry.example.org/team/web:2 is done\n",
        ),
    ],
)
def test_a_restart_says_what_it_waits_for(web: Script, hale: Hale, waits: Any, said: str) -> None:
    web.on("GET", f"/deployments/{e.WEB}/health", e.health(preparation=waits))
    web.on("POST", f"/deployments/{e.WEB}/restart", {"deploymentId": e.WEB, "revision": 4, "id": "s4"})
    done = hale("restart", "web")
    assert (done.returncode, done.stderr) == (0, said)


# --- what goes wrong --------------------------------------------------------------------------


def test_an_unknown_name_is_an_error_with_a_guess(web: Script, hale: Hale) -> None:
    done = hale("get", "wbe")
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot find deployment wbe: there is none of that name or id\nhint: did you mean web?\n"
    )


def test_a_name_in_two_projects_is_refused_unless_the_project_is_named(web: Script, hale: Hale) -> None:
    other = e.deployment(id="other-id", projectId="p2")
    web.page("/deployments", e.deployment(), other)
    web.page("/projects", {"id": "p1", "name": "default"}, {"id": "p2", "name": "lab"})
    web.page("/projects/p1/deployments", e.deployment())
    done = hale("get", "web")
    assert done.returncode == 1
    assert f"default ({e.WEB}), lab (other-id)" in done.stderr
    assert hale("get", "web", "--project", "default").returncode == 0
    assert hale("get", "web", "--project", "lap").stderr.endswith("hint: did you mean lab?\n")


def test_a_wrong_token_is_exit_1(web: Script, hale: Hale) -> None:
    done = hale("list", HALE_TOKEN="wrong")
    assert done.returncode == 1
    assert "refuses the token" in done.stderr
    assert "wrong" not in done.stderr


def test_no_daemon_is_exit_3_and_says_how_to_start_one(hale: Hale) -> None:
    done = hale("list", HALE_API_URL="")
    assert done.returncode == 3
    assert "no daemon is running" in done.stderr
    assert "hale serve" in done.stderr


def test_down_without_a_daemon_says_that_it_is_down_and_what_may_be_left(hale: Hale, tmp_path: Path) -> None:
    done = hale("down", "--data", str(tmp_path), HALE_API_URL="")
    assert done.returncode == 3
    assert done.stderr == (
        f"error: hale is down already: no daemon is running on {tmp_path}\n"
        "hint: what a killed one left running is found by `hale serve`, and ended by `hale down` then\n"
    )


def test_the_daemon_is_found_in_the_data_folder(web: Script, hale: Hale, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api").write_text(web.url.removeprefix("http://") + "\n")
    (tmp_path / "data" / "token").write_text("right\n")
    assert hale("list", HALE_API_URL="", HALE_TOKEN="").returncode == 0
    assert (
        hale(
            "list", "--data", str(tmp_path / "data"), HALE_API_URL="", HALE_TOKEN="", HALE_DATA=""
        ).returncode
        == 0
    )


def test_a_daemon_that_left_its_address_behind_is_exit_3(hale: Hale, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api").write_text("127.0.0.1:1\n")
    done = hale("list", HALE_API_URL="")
    assert done.returncode == 3
    assert "connection refused" in done.stderr


def test_the_token_of_this_machine_is_not_sent_to_another(hale: Hale, tmp_path: Path, script: Script) -> None:
    from hale.cli.client import find

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "token").write_text("secret\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HALE_TOKEN", raising=False)
        patch.setenv("HALE_API_URL", "https://hale.example/v1/")
        assert find(tmp_path / "data").token is None
        assert find(tmp_path / "data").url == "https://hale.example"
        patch.setenv("HALE_API_URL", "http://127.0.0.1:4253")
        assert find(tmp_path / "data").token == "secret"


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://x:99999", "http://me:secret@x"])
def test_a_url_that_is_none_is_refused(hale: Hale, url: str) -> None:
    done = hale("list", HALE_API_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot use HALE_API_URL: it is not a URL")
    assert "secret" not in done.stderr


def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(hale: Hale) -> None:
    done = hale("list", HALE_TOKEN="secret\nX: y")
    assert done.returncode == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(None, "no answer in time", id="silence"),
        pytest.param(b"", "it closed the connection without an answer", id="the line goes dead"),
        pytest.param(b"SSH-2.0-x\r\n", "SSH-2.0-x", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            "it broke off in the middle of an answer",
            id="half an answer",
        ),
    ],
)
def test_no_answer_is_exit_3(
    hale: Hale, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, said: str
) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener, answering(listener, answer):
        done = hale("list", HALE_API_URL=f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert done.returncode == 3
    assert said in done.stderr


@contextmanager
def answering(listener: socket.socket, answer: bytes | None) -> Iterator[None]:
    """Accepts connections and gives each the same answer; None: accepts and says nothing."""
    kept: list[socket.socket] = []

    def serve() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                connection.recv(65536)
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()
        except OSError:
            return  # the listener was shut down

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=30)
    for connection in kept:
        connection.close()


def test_a_url_may_end_in_v1(web: Script, hale: Hale) -> None:
    assert hale("list", HALE_API_URL=f"{web.url}/v1").returncode == 0
    assert hale("list", HALE_API_URL=f"{web.url}/v1/").returncode == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"<html>hello</html>", "it is not what hale's API says", id="no JSON"),
        pytest.param([1, 2], "it is not what hale's API says", id="another shape"),
        pytest.param(
            {"items": [{"id": 3}], "hasMore": False}, "it is not what hale's API says", id="fields missing"
        ),
        pytest.param((500, b"oops"), "it answers with status 500", id="500 without a body of ours"),
        pytest.param(
            (503, {"code": "X", "message": "cannot do it: busy (hint: wait)"}), "busy\nhint: wait", id="503"
        ),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_without_traceback(
    script: Script, hale: Hale, answer: Any, said: str
) -> None:
    script.on("GET", "/deployments", answer)
    done = hale("list")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_issues_are_printed_one_a_line(web: Script, hale: Hale) -> None:
    refusal = {
        "code": "BAD_REQUEST",
        "message": "cannot do it",
        "issues": [{"message": "x: bad"}, {"message": "y\x1b["}],
    }
    web.on("PATCH", f"/deployments/{e.WEB}", (400, refusal))
    done = hale("scale", "web", "5")
    assert (done.returncode, done.stderr) == (1, "error: cannot do it\n  x: bad\n  y\\x1b[\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["lits"], "Did you mean 'list'?", id="a command that does not exist"),
        pytest.param(["list", "--jsn"], "--json", id="an option that does not exist"),
        pytest.param(["get"], "missing argument 'NAME'", id="no name"),
        pytest.param(["scale", "web", "-1"], "no such option: -1", id="a negative number"),
        pytest.param(["scale", "web", "10001"], "less than or equal to 10000", id="too many"),
        pytest.param(["scale", "web", "two"], "should be a valid integer", id="no number"),
        pytest.param(["serve", "--api", "nowhere"], "'nowhere' is not HOST:PORT", id="no address"),
        pytest.param(["serve", "--gateway", "::1:80"], "an IPv6 address goes in brackets", id="bare IPv6"),
        pytest.param(["serve", "--domain", "a b"], "'a b' is not a domain", id="a domain with a blank"),
        pytest.param(["serve", "--domain", "x\ny"], r"'x\ny' is not a domain", id="a domain of two lines"),
        pytest.param(["serve", "--domain", "a..b"], "is not a domain", id="a domain with an empty label"),
        pytest.param(["serve", "--domain", ""], "'' is not a domain", id="an empty domain"),
        pytest.param(["serve", "--domain", "x" * 64], "is not a domain", id="a domain with a long label"),
        pytest.param(["serve", "--engine", "steam"], "'--engine': 'steam' is not", id="no such engine"),
    ],
)
def test_wrong_usage_is_exit_2(hale: Hale, arguments: list[str], said: str) -> None:
    done = hale(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_file_of_machine_types_that_is_not_there_is_refused(hale: Hale, tmp_path: Path) -> None:
    done = hale("serve", "--machines", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read machine types from ")


def test_without_a_command_help_is_shown(hale: Hale) -> None:
    done = hale()
    assert (done.returncode, done.stdout) == (2, "")
    assert "rollback" in done.stderr


def test_help_and_version_are_data(hale: Hale) -> None:
    assert "Usage: hale [OPTIONS] COMMAND" in hale("--help").stdout
    assert hale("--version").stdout.startswith("hale ")


def test_a_reader_that_goes_away_is_no_traceback(web: Script, env: dict[str, str]) -> None:
    web.page("/deployments", *[e.deployment(name=f"web-{n}") for n in range(200)])
    command = f"{sys.executable} -m hale.cli.main list | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert done.stdout.startswith("NAME")
    assert done.stderr == ""


def test_a_terminal_gets_colour_unless_told_otherwise(web: Script, env: dict[str, str]) -> None:
    assert "\x1b[" in in_terminal(env, "list")
    assert "\x1b[" not in in_terminal(env | {"NO_COLOR": "1", "TERM": "dumb"}, "list")


def test_listing_starts_without_the_servers_half(web: Script, env: dict[str, str]) -> None:
    code = (
        "import sys, hale.cli.main as m; m.run(['list']); "
        "print([m for m in sys.modules if m in "
        "('fastapi', 'uvicorn', 'ruamel.yaml', 'httpx', 'asyncio', 'uvloop', 'hale.spec', 'hale.daemon')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["list", "list --json"])
def test_closed_streams_are_no_traceback(web: Script, env: dict[str, str], command: str) -> None:
    line = f"{sys.executable} -m hale.cli.main {command}"
    done = subprocess.run(f"{line} >&-", shell=True, capture_output=True, text=True, env=env, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_knows_no_unicode_gets_escapes(web: Script, env: dict[str, str]) -> None:
    web.page("/deployments", e.deployment(name="Zürich"))
    command = [sys.executable, "-m", "hale.cli.main", "list"]
    given = env | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=given, timeout=60)
    assert done.returncode == 0
    assert "Z\\xfcrich" in done.stdout


def test_a_deployment_that_is_deleted_meanwhile_is_not_listed(web: Script, hale: Hale) -> None:
    web.page("/deployments", e.deployment(), e.deployment(id="gone", name="gone"))
    assert [each["name"] for each in json.loads(hale("list", "--json").stdout)] == ["web"]


def in_terminal(env: dict[str, str], *arguments: str) -> str:
    """What `hale` writes to a terminal of 80 columns."""
    main, side = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(main, 4096):
                shown.append(chunk)
        except OSError:
            return  # the other side was closed

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "hale.cli.main", *arguments]
    given = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | env
    subprocess.run(command, stdin=side, stdout=side, stderr=side, env=given, timeout=60, check=False)
    os.close(side)
    reader.join(timeout=30)
    os.close(main)
    return b"".join(shown).decode()
