"""The parts of `make demo` that need no hale: what it hands over, and who hears a signal."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from demo import EXAMPLE_S3, HERE, environment, free_or, spec_for
from kit.until import until
from ruamel.yaml import YAML

pytestmark = pytest.mark.real_time

_RUNS_A_CHILD = """
import sys
from demo import Foreground
sys.exit(Foreground().run([sys.executable, "-c", sys.argv[1], sys.argv[2]], {}))
"""
_COUNTS_SIGINTS = """
import signal, sys, time
told = []
def note(number, frame):
    told.append(signal.Signals(number).name)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
open(sys.argv[1], "w").write("up")
while not told:
    time.sleep(0.01)
time.sleep(0.5)
open(sys.argv[1], "w").write(" ".join(told))
sys.exit(5)
"""


def test_the_demos_spec_is_the_example_with_its_own_s3_and_the_applications_folder(tmp_path: Path) -> None:
    spec = YAML(typ="safe").load(spec_for("http://127.0.0.1:1234", tmp_path).read_text())
    example = YAML(typ="safe").load((HERE / "hale.yaml").read_text())
    assert spec.pop("hale") == {"workdir": str(HERE)}
    assert spec["env"][0] == {"name": "AWS_ENDPOINT_URL", "value": "http://127.0.0.1:1234"}
    spec["env"][0]["value"] = EXAMPLE_S3
    assert spec == example


def test_a_port_in_use_is_not_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_or(taken) != taken
    assert free_or(taken) == taken


def test_the_demo_finds_no_daemon_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HALE_TOKEN", "theirs")
    assert not {"HALE_API_URL", "HALE_TOKEN"} & set(environment())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_any_stop_signal_to_the_whole_group_reaches_hale_as_one_ctrl_c(tmp_path: Path, name: str) -> None:
    told = tmp_path / "told"
    process = subprocess.Popen(
        [sys.executable, "-c", _RUNS_A_CHILD, _COUNTS_SIGINTS, str(told)],
        env={"PYTHONPATH": str(HERE)},
        start_new_session=True,
    )
    try:
        until(told.exists, what="the child is up")
        os.killpg(process.pid, signal.Signals[name])
        assert process.wait(timeout=30) == 5
    finally:
        process.kill()
        process.wait()
    assert told.read_text() == "SIGINT"
