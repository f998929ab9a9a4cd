"""`hale up` with a daemon of its own: started, shown, and stopped with all it runs. The daemon is a fake."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import examples as e
from cli.scripted import TOKEN
from kit.terminal import CTRL_C, Terminal
from kit.until import until

pytestmark = pytest.mark.real_time

TESTS = Path(__file__).parents[1]
FAKE = [sys.executable, str(TESTS / "cli" / "fake_daemon.py")]

DRIVER = """\
import sys
from pathlib import Path
from hale.cli import main, up
from hale.cli.serve import ServeOptions

real, fake, data, *options = up.up, sys.argv[1:3], sys.argv[3], *sys.argv[4:]
up.up = lambda wanted, given, *, detach: real(wanted, given, detach=detach, program=fake)
sys.exit(main.run(["up", "-", "--data", data, *options]))
"""

SPEC = json.dumps({"name": "web", "command": ["x"], "resources": {"machineType": "C4", "ports": [1]}})


class Up:
    """`hale up` with a fake daemon, on a data folder of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.spec = data.with_name("spec.json")
        self.spec.write_text(SPEC)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        self.env = kept | {"PYTHONPATH": str(TESTS), "TZ": "UTC"}

    def command(self, *options: str) -> list[str]:
        driver = DRIVER.replace('"-"', repr(str(self.spec)))
        return [sys.executable, "-c", driver, *FAKE, str(self.data), *options]

    def start(self, *options: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env | env,
            text=True,
        )

    def asked(self) -> list[Any]:
        """What the daemon was asked to change, once it has ended."""
        return list(json.loads((self.data / "asked").read_text()))


STOPPED = [
    ["PATCH", f"/deployments/{e.WEB}", {"enabled": False}],
    ["POST", "/down", {}],
]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    made = Up(tmp_path / "data")
    yield made
    if (made.data / "api").exists():  # a failed test leaves it behind
        import http.client

        connection = http.client.HTTPConnection((made.data / "api").read_text().strip(), timeout=10)
        connection.request("POST", "/v1/down", b"{}", {"Authorization": f"Bearer {TOKEN}"})
        connection.close()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_what_was_applied_and_then_the_daemon(up: Up, number: signal.Signals) -> None:
    process = up.start()
    until(lambda: "healthy" in first_line(process))
    process.send_signal(number)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert up.asked()[1:] == STOPPED
    assert not (up.data / "api").exists()


def test_in_a_pipe_it_prints_events_and_that_it_is_healthy(up: Up) -> None:
    process = up.start()
    lines = {first_line(process).rstrip().partition("  ")[2] or "healthy" for _ in range(2)}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert lines == {"7f3a91c2  ready, gets traffic", "healthy"}


def test_a_second_signal_does_not_wait_for_replicas(up: Up) -> None:
    process = up.start(FAKE_STUBBORN="1")
    first_line(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    until(lambda: "stopping web" in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert up.asked()[1:] == STOPPED


def test_a_signal_while_the_daemon_starts_ends_it_once_it_answers(up: Up, tmp_path: Path) -> None:
    process = up.start(FAKE_WAITS=str(tmp_path / "go"))
    until((up.data / "serve.log").exists)
    process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert up.asked() == [["POST", "/down", {}]]


def test_a_second_signal_while_the_daemon_starts_breaks_it_off(up: Up, tmp_path: Path) -> None:
    process = up.start(FAKE_WAITS=str(tmp_path / "never"))
    until((up.data / "serve.log").exists)
    for number in (signal.SIGINT, signal.SIGTERM):  # two of one kind may arrive as one
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_daemon_that_does_not_start_is_an_error_with_its_own_words(up: Up) -> None:
    process = up.start(FAKE_REFUSES="1")
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 1
    assert talk.splitlines()[-2:] == [
        "error: cannot listen on 127.0.0.1:1: permission denied",
        "hint: another port",
    ]


@pytest.mark.parametrize("options", [(), ("--detach",)])
def test_a_refused_spec_ends_the_daemon_that_was_started_for_it(up: Up, options: tuple[str, ...]) -> None:
    process = up.start(*options, FAKE_NO="1")
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: cannot apply web: no\n" in talk
    assert up.asked()[-1] == ["POST", "/down", {}]


def test_detached_it_leaves_the_daemon_running_once_healthy(up: Up) -> None:
    process = up.start("--detach")
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "web is healthy" in talk
    assert (up.data / "api").exists()
    down = [sys.executable, "-m", "hale.cli.main", "down", "--data", str(up.data)]
    done = subprocess.run(down, env=up.env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "hale is down")
    assert up.asked()[1:] == [["POST", "/down", {}]]


def test_a_daemon_that_is_killed_is_an_error_that_says_how_to_go_on(up: Up) -> None:
    process = up.start()
    first_line(process)
    pid = until(lambda: daemon_pid(up))
    os.kill(pid, signal.SIGKILL)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "it was ended by SIGKILL" in talk
    assert "`hale serve` takes over" in talk
    (up.data / "api").unlink()


def daemon_pid(up: Up) -> int:
    import http.client

    connection = http.client.HTTPConnection((up.data / "api").read_text().strip(), timeout=10)
    connection.request("GET", "/v1/server", headers={"Authorization": f"Bearer {TOKEN}"})
    pid = json.loads(connection.getresponse().read())["pid"]
    connection.close()
    return int(pid)


def terminal(up: Up, **env: str) -> Terminal:
    return Terminal(up.command(), cwd=up.data.parent, env=up.env | env, size=(24, 80))


def test_ctrl_c_in_a_terminal_stops_all_of_it(up: Up) -> None:
    with terminal(up) as screen:
        until(lambda: "Ctrl-C stops it." in screen.text())
        screen.press(CTRL_C)
        assert screen.wait() == 0
    assert up.asked()[1:] == STOPPED


def test_closing_the_terminal_stops_all_of_it(up: Up) -> None:
    with terminal(up) as screen:
        until(lambda: "Ctrl-C stops it." in screen.text())
        screen.hang_up()
        screen.wait()
    assert up.asked()[1:] == STOPPED


def test_the_environments_token_is_not_the_new_daemons(up: Up) -> None:
    process = up.start(HALE_TOKEN="of another daemon")
    assert first_line(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_ctrl_c_while_an_image_is_pulled_stops_all_of_it(up: Up) -> None:
    with terminal(up, FAKE_PULLS="1") as screen:
        until(lambda: "3 of 5 layers, 41 of 120 MB" in screen.text())
        screen.press(CTRL_C)
        assert screen.wait() == 0
    assert up.asked()[1:] == STOPPED
