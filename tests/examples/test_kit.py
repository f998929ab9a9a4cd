"""The kit that the end-to-end tests stand on: a Load that missed failures would pass them all."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from kit.daemon import replica_command
from kit.load import Load
from kit.processes import end_all, processes_of, running
from kit.terminal import CTRL_C, Terminal
from kit.until import until
from s3_server import free_port

pytestmark = pytest.mark.real_time


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where a test replica answers."""
    port = free_port()
    env = {"PORT": str(port), "VERSION": "one", "PATH": os.defpath}
    process = subprocess.Popen(replica_command(), env=env, cwd=tmp_path, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    until(answers, what="the replica answers")
    yield port
    process.kill()
    process.wait()


def test_a_load_counts_who_answered(port: int) -> None:
    with Load(f"127.0.0.1:{port}", "web.localhost") as load:
        load.flow(200)
    assert load.failures == []
    assert load.versions()["one"] == load.count >= 200
    assert len(load.replicas()) == 1


def test_a_load_sees_a_status_that_is_not_200(port: int) -> None:
    httpx.post(f"http://127.0.0.1:{port}/tell?readiness=503", trust_env=False)
    with Load(f"127.0.0.1:{port}", "web.localhost", "/readiness") as load:
        load.flow(20)
    assert {each.status for each in load.failures} == {503}


def test_a_load_sees_a_server_that_goes_away(port: int) -> None:
    with Load(f"127.0.0.1:{port}", "web.localhost") as load:
        load.flow(20)
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"http://127.0.0.1:{port}/exit?code=3", trust_env=False)
        load.flow(20)
    assert any("Refused" in each.error for each in load.failures)


def test_processes_are_found_by_their_folder_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    by_folder = subprocess.Popen(command, cwd=tmp_path)
    by_environment = subprocess.Popen(command, env={"WHOSE": str(tmp_path)})
    other = subprocess.Popen(command, env={})
    try:
        until(lambda: set(processes_of(tmp_path)) == {by_folder.pid, by_environment.pid}, within=10)
        end_all(tmp_path)
        assert (by_folder.wait(), by_environment.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert running(other.pid)
        assert not running(by_folder.pid)
    finally:
        other.kill()
        other.wait()


_SAYS_WHICH_SIGNAL = """
import signal, sys, time
def say(number, frame):
    open(sys.argv[1], "w").write(signal.Signals(number).name)
    sys.exit(7)
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, say)
print("in a terminal:", sys.stdout.isatty(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_terminal_sends_what_real_ones_send(tmp_path: Path, name: str) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", _SAYS_WHICH_SIGNAL, str(told)]
    with Terminal(command, cwd=tmp_path, env={"PATH": os.defpath}) as terminal:
        until(lambda: "in a terminal: True" in terminal.text(), what="it is in a terminal")
        if name == "SIGINT":
            terminal.press(CTRL_C)
        else:
            terminal.hang_up()
        assert terminal.wait() == 7
    assert told.read_text() == name
