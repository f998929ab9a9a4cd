"""Following a deployment: how it came out, and what is shown on the way when nobody watches a terminal."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from cli import examples as e
from cli.scripted import Hale, Script

from hale.cli import answers
from hale.cli.follow import Snapshot, Wakes, outcome

pytestmark = pytest.mark.real_time

DEPLOYMENT = answers.deployment(e.deployment())
HEALTH = answers.health(e.health())

SPEC = """\
name: web
command: [python, app.py]
resources: {machineType: C4, ports: [8000], replicas: 3}
"""


STILL: dict[str, Any] = {"healthy_at": None}


@pytest.mark.parametrize(
    ("known", "ok", "said"),
    [
        pytest.param({}, True, "web is healthy: http://web.localhost:8080/", id="healthy"),
        pytest.param(STILL | {"error": "no luck"}, False, "cannot deploy web: no luck", id="failed"),
        pytest.param(STILL, None, "", id="under way"),
        pytest.param(STILL | {"wanted": 0}, True, "web is applied; it is scaled to zero", id="zero"),
        pytest.param(STILL | {"enabled": False}, True, "web is applied; it is disabled", id="disabled"),
        pytest.param(STILL | {"enabled": False, "applied_at": None}, None, "", id="not yet applied"),
        pytest.param(
            {"spec_id": "other"},
            False,
            "cannot finish web: another revision was applied meanwhile",
            id="overtaken",
        ),
    ],
)
def test_an_applied_spec_comes_out_one_way(known: dict[str, Any], ok: bool | None, said: str) -> None:
    result = outcome(Snapshot(replace(DEPLOYMENT, **known), HEALTH), "s3")
    assert (None if result is None else result.ok) is ok
    assert ("" if result is None else result.message) == said


def test_an_error_of_a_pull_ends_the_wait_with_its_own_hint() -> None:
    known = replace(
        DEPLOYMENT, healthy_at=None, applied_at=None, error="cannot pull x: no such tag (hint: tags)"
    )
    result = outcome(Snapshot(known, HEALTH), "s3")
    assert result is not None
    assert (result.ok, result.message, result.hint) == (
        False,
        "cannot deploy web: cannot pull x: no such tag",
        "tags",
    )


def test_a_wait_ends_soon_after_an_event_and_gathers_a_burst() -> None:
    wakes = Wakes()
    events = [answers.event(e.event(number, 1, "x")) for number in range(20)]
    sender = threading.Thread(target=lambda: [wakes.put(each) for each in events])
    sender.start()
    assert wakes.wait(3600) == tuple(events)
    sender.join()


def test_a_wait_ends_at_once_at_a_signal() -> None:
    wakes = Wakes()
    wakes.put(None)
    assert wakes.wait(3600) == ()


@pytest.fixture
def web(script: Script) -> Script:
    """A daemon that takes `web`, and finds it rolling out at first."""
    script.page("/deployments")
    script.page("/projects/default/deployments")
    script.page("/projects", {"id": "default", "name": "default"})
    script.on("POST", "/deployments", {"deploymentId": e.WEB})
    script.on("GET", f"/deployments/{e.WEB}", rolling_out_first())
    script.on("GET", f"/deployments/{e.WEB}/health", e.health(e.ready_replica()))
    script.on("GET", f"/deployments/{e.WEB}/events", stream(e.event(7, 1, "ready\x1b[2J, gets traffic")))
    return script


def rolling_out_first(**then: Any) -> Any:
    """Rolling out for as long as nobody has seen an event, then as `then` says."""
    looks: list[int] = []

    def answer(_: dict[str, str]) -> Any:
        looks.append(1)
        spec = {"dtHealthy": None} if len(looks) < 4 else then
        return e.deployment(spec=spec)

    return answer


def stream(*events: Any) -> bytes:
    return b"".join(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def test_apply_sends_the_spec_with_the_folder_it_is_in(web: Script, hale: Hale, tmp_path: Any) -> None:
    (tmp_path / "hale.yaml").write_text(SPEC)
    done = hale("apply", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "web: revision 3 is applied, http://web.localhost:8080/\n"
    (body,) = web.bodies("POST", "/deployments")
    assert body["projectId"] == "default"
    assert body["config"]["hale"] == {"workdir": str(tmp_path)}
    assert body["config"]["command"] == ["python", "app.py"]


def test_apply_reads_standard_input_and_takes_a_name(web: Script, hale: Hale) -> None:
    spec = '// not YAML\n{"command": ["x"], "resources": {"machineType": "C4", "ports": [1]}}'
    assert hale("apply", "-", "--name", "other", stdin=spec).returncode == 0
    assert web.bodies("POST", "/deployments")[0]["config"]["name"] == "other"


def test_waiting_prints_a_line_for_each_event_and_ends_when_healthy(web: Script, hale: Hale) -> None:
    done = hale("apply", "-", "--wait", stdin=SPEC)
    assert done.returncode == 0
    assert done.stdout.endswith("7f3a91c2  ready\\x1b[2J, gets traffic\n")
    assert done.stderr == "web is healthy: http://web.localhost:8080/\n"


def test_up_with_a_daemon_does_the_same(web: Script, hale: Hale) -> None:
    assert hale("up", "-", stdin=SPEC).stderr == "web is healthy: http://web.localhost:8080/\n"


def test_waiting_for_what_fails_is_exit_1_with_the_reason(web: Script, hale: Hale) -> None:
    web.on("GET", f"/deployments/{e.WEB}", rolling_out_first(dtHealthy=None, error="0 of 3 replicas ready"))
    done = hale("apply", "-", "--wait", stdin=SPEC)
    assert done.returncode == 1
    assert "error: cannot deploy web: 0 of 3 replicas ready\n" in done.stderr


def test_a_refused_spec_is_exit_1_with_all_that_the_daemon_says(web: Script, hale: Hale) -> None:
    refusal = {
        "code": "BAD_REQUEST",
        "message": "cannot apply web: image: no",
        "issues": [{"message": "image: no"}],
    }
    web.on("POST", "/deployments", (400, refusal))
    done = hale("up", "-", stdin=SPEC)
    assert (done.returncode, done.stderr) == (1, "error: cannot apply web: image: no\n")


def test_every_problem_of_a_spec_is_printed_with_its_place(web: Script, hale: Hale) -> None:
    done = hale("apply", "-", stdin="name: web\ncomand: [x]\nresources:\n  replicas: -1\n")
    assert done.returncode == 1
    assert "  stdin:2:1: comand: unknown key; did you mean command?\n" in done.stderr
    assert "  stdin:4:3: resources.replicas: must be at least 0, not -1\n" in done.stderr
    assert web.bodies("POST", "/deployments") == []


def test_options_of_serve_are_refused_when_a_daemon_runs(web: Script, hale: Hale) -> None:
    done = hale("up", "-", "--gateway", "127.0.0.1:0", stdin=SPEC)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot use --gateway: a daemon is running")


def test_up_starts_no_daemon_when_the_one_that_was_named_is_away(hale: Hale, tmp_path: Any) -> None:
    done = hale("up", "-", stdin=SPEC, HALE_API_URL="http://127.0.0.1:1")
    assert done.returncode == 3
    assert not (tmp_path / "data").exists()


def test_validate_says_valid_and_notes_what_has_no_effect(hale: Hale) -> None:
    done = hale("validate", "-", stdin=SPEC + "region: ny2\n")
    assert (done.returncode, done.stdout) == (0, "valid: web, 3 replicas\n")
    assert done.stderr.startswith("note: region has no effect here")


def test_what_cannot_be_done_yet_is_a_note_of_validate_and_refused_by_apply(web: Script, hale: Hale) -> None:
    spec = SPEC + "integrations: [{type: model, id: m, name: m}]\n"
    said = "stdin:4:16: integrations[0]: stored models don't exist here"
    checked = hale("validate", "-", stdin=spec)
    assert checked.returncode == 0
    assert f"note: {said}" in checked.stderr
    refused = hale("apply", "-", stdin=spec)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert web.bodies("POST", "/deployments") == []


def test_a_folder_without_a_spec_is_an_error_that_says_what_is_looked_for(hale: Hale, tmp_path: Any) -> None:
    done = hale("up", str(tmp_path))
    assert done.returncode == 1
    assert "there is no hale.yaml" in done.stderr


def test_a_file_that_is_not_there_is_an_error(hale: Hale) -> None:
    done = hale("validate", "nowhere.yaml")
    assert done.returncode == 1
    assert "nowhere.yaml: no such file or directory\n" in done.stderr
