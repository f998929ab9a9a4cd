"""The documented example, whole: S3, the application in two replicas, the gateway; and `make demo`."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from demo import MODEL, environment, spec_for
from kit.daemon import Hale, Json
from kit.processes import end_all, processes_of
from kit.terminal import CTRL_C, Terminal
from kit.until import until
from s3_server import S3Server, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"
HOST = "iris.localhost"
VIRGINICA = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
READINESS_BUDGET = 3 * 10 + 5
"""Seconds: failureThreshold * periodSeconds, and the timeout of the last check."""


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3")
    server.put("iris", "iris.json", MODEL.read_bytes())
    with server:
        yield server


@pytest.fixture
def example(new_hale: Callable[..., Hale], s3: S3Server, tmp_path: Path) -> tuple[Hale, str]:
    """A hale that runs the example, and the deployment's id; all healthy."""
    hale = new_hale(env=environment()).start()
    applied = hale.cli("apply", str(spec_for(s3.url, tmp_path)), "--wait")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    deployment = hale.get("deployments")["items"][0]["id"]
    hale.wait_ready(deployment, 2)
    return hale, deployment


def once_each(replicas: list[Json]) -> list[tuple[int, int]]:
    return sorted((each["pid"], each["restarts"]) for each in replicas)


def test_the_example_predicts_through_the_gateway_and_keeps_the_result(
    example: tuple[Hale, str], s3: S3Server
) -> None:
    hale, _ = example
    answer = hale.ask(HOST, "/predict/", "POST", json=VIRGINICA)
    assert (answer.status_code, answer.json()["species"]) == (200, "virginica")
    assert answer.json()["key"] in s3.keys("iris")


@pytest.mark.parametrize("how", ["stopped", "hanging"])
def test_without_s3_both_replicas_leave_traffic_and_come_back_with_it(
    example: tuple[Hale, str], s3: S3Server, how: str
) -> None:
    hale, deployment = example
    before = once_each(hale.replicas(deployment))
    if how == "stopped":
        s3.stop()
    else:
        s3.pause()
    hale.wait_ready(deployment, 0, within=READINESS_BUDGET + 15)
    refused = hale.ask(HOST, "/liveness/")
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    if how == "stopped":
        s3.start()
    else:
        s3.resume()
    hale.wait_ready(deployment, 2, within=30)
    assert hale.ask(HOST, "/readiness/").text == '"Readiness check succeeded."'
    assert once_each(hale.replicas(deployment)) == before


def test_replicas_that_never_get_their_model_are_started_again(
    new_hale: Callable[..., Hale], s3: S3Server, tmp_path: Path
) -> None:
    s3.stop()
    hale = new_hale(env=environment()).start()
    spec = spec_for(s3.url, tmp_path)
    spec.write_text(spec.read_text().replace("failureThreshold: 6", "failureThreshold: 1"))
    assert hale.cli("apply", str(spec)).returncode == 0
    deployment = hale.get("deployments")["items"][0]["id"]
    until(lambda: [each for each in hale.replicas(deployment) if each["restarts"]], what="a restart")
    assert any("startup check failed 1 of 1" in each["message"] for each in hale.events(deployment))
    s3.start()
    hale.wait_ready(deployment, 2)


# --- make demo ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the demo makes its temporary folder: everything of it is found by that name, and ended."""
    folder = tmp_path / "demo-tmp"
    folder.mkdir()
    yield folder
    end_all(folder)


def surroundings(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}


def demo_command() -> list[str]:
    """On a port of its own: another demo that runs beside it would take the usual one, or answer for it."""
    return [sys.executable, str(EXAMPLE / "demo.py"), str(free_port())]


def url_in(text: str) -> str | None:
    found = re.search(r"http://iris\.localhost:(\d+)", text)
    return found and f"http://127.0.0.1:{found[1]}"


def answers(text: Callable[[], str]) -> bool:
    """Whether the URL that the demo prints leads to a prediction."""
    url = url_in(text())
    if url is None:
        return False
    try:
        answer = httpx.post(f"{url}/predict/", json=VIRGINICA, headers={"Host": HOST}, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["species"] == "virginica"


def wait_until_nothing_is_left(folder: Path) -> None:
    """The last to go, the keeper and what HAProxy leaves to init, may be a moment behind the demo."""

    def left() -> list[object]:
        return [*processes_of(folder).items(), *folder.glob("hale-demo-*")]

    until(lambda: not left(), within=10, what=lambda: f"nothing is left: {left()}")


@pytest.mark.parametrize("ending", ["ctrl-c", "sigterm", "window closed", "killed"])
def test_the_demo_serves_and_leaves_nothing_running(folder: Path, ending: str) -> None:
    with Terminal(demo_command(), cwd=folder.parent, env=surroundings(folder)) as terminal:
        until(lambda: answers(terminal.text), within=120, what=lambda: f"it serves: {terminal.text()}")
        if ending == "ctrl-c":
            terminal.press(CTRL_C)
        elif ending == "sigterm":
            terminal.process.terminate()
        elif ending == "killed":
            terminal.process.kill()
        else:
            terminal.hang_up()
        code = terminal.wait(within=120)
    if ending == "killed":
        until(lambda: not processes_of(folder), what=lambda: f"nothing runs: {processes_of(folder)}")
    else:
        assert code == 0
        wait_until_nothing_is_left(folder)


def test_the_demo_works_without_a_terminal(folder: Path) -> None:
    shown = folder.parent / "shown"
    with shown.open("wb") as output:
        process = subprocess.Popen(
            demo_command(),
            env=surroundings(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: answers(shown.read_text), within=120, what=lambda: f"it serves: {shown.read_text()}")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
    wait_until_nothing_is_left(folder)


def test_a_demo_that_hale_refuses_says_so_and_leaves_nothing_running(folder: Path) -> None:
    copy = folder.parent / "example"
    shutil.copytree(EXAMPLE, copy)
    spec = copy / "hale.yaml"
    spec.write_text(spec.read_text().replace("replicas: 2", "replicas: many"))
    ended = subprocess.run(
        [sys.executable, str(copy / "demo.py")],
        env=surroundings(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, "resources.replicas" in ended.stderr) == (1, True)
    wait_until_nothing_is_left(folder)
