"""The command line with a real daemon, a real gateway and real replicas."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.daemon import Hale, web_spec
from kit.terminal import CTRL_C, Terminal
from kit.until import until

pytestmark = pytest.mark.e2e

FREE_PORTS = ["--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0"]


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Hale]:
    """A data folder with no daemon yet, and a spec beside it."""
    made = Hale(tmp_path / "data")
    (tmp_path / "hale.json").write_text(json.dumps(web_spec()))
    yield made
    made.end()


def spec(whole: Hale) -> str:
    return str(whole.data.parent / "hale.json")


def test_a_deployment_from_up_to_down(whole: Hale) -> None:
    up = whole.cli("up", spec(whole), "--detach", *FREE_PORTS)
    assert up.returncode == 0, up.stderr
    assert "web is healthy: http://web.localhost:" in up.stderr
    (listed,) = json.loads(whole.cli("list", "--json").stdout)
    assert (listed["status"], listed["readyReplicas"]) == ("healthy", 2)
    assert whole.cli("get", "web").stdout.count("  ready for ") == 2
    assert whole.cli("scale", "web", "1").returncode == 0
    until(lambda: json.loads(whole.cli("list", "--json").stdout)[0]["readyReplicas"] == 1)
    assert "revision 1 is healthy" in whole.cli("events", "web").stdout
    assert "1" in whole.cli("history", "web").stdout
    down = whole.cli("down")
    assert (down.returncode, down.stderr.splitlines()[-1]) == (0, "hale is down")
    assert whole.processes() == {}
    assert whole.cli("list").returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_foreground_up_leaves_nothing_running_and_its_deployment_disabled(
    whole: Hale, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        whole.command("up", spec(whole), *FREE_PORTS), stdout=subprocess.PIPE, text=True, env=whole.env
    )
    assert process.stdout is not None
    until(lambda: "web is healthy" in process.stdout.readline())
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert whole.processes() == {}
    whole.start()
    (listed,) = json.loads(whole.cli("list", "--json").stdout)
    assert listed["status"] == "disabled"


def test_ctrl_c_in_a_terminal_leaves_nothing_running(whole: Hale) -> None:
    command = whole.command("up", spec(whole), *FREE_PORTS)
    with Terminal(command, cwd=whole.data.parent, env=whole.env, size=(24, 80)) as screen:
        until(lambda: "healthy" in screen.text(), what=screen.text)
        screen.press(CTRL_C)
        assert screen.wait(120) == 0
    assert whole.processes() == {}


def test_a_second_daemon_on_the_same_folder_is_refused(whole: Hale) -> None:
    whole.start()
    done = whole.cli("serve", *FREE_PORTS)
    assert done.returncode == 1
    assert "error: cannot serve from" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_that_never_becomes_healthy_fails_up_with_the_reason(whole: Hale) -> None:
    bad = web_spec(hale={"strategy": {"progressDeadlineSeconds": 2}}, command=["sh", "-c", "exit 3"])
    (whole.data.parent / "hale.json").write_text(json.dumps(bad))
    done = whole.cli("up", spec(whole), "--detach", *FREE_PORTS)
    assert done.returncode == 1
    assert "error: cannot deploy web: revision 1 is not healthy after" in done.stderr
    assert "exited with code 3" in whole.cli("get", "web").stdout
