"""Trouble: each gets a clear word, and the rest goes on."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from kit.daemon import REPLICA, Hale, Json, web_spec
from kit.processes import running

pytestmark = pytest.mark.e2e

NewHale = Callable[..., Hale]

QUICK = {"backoff": {"initialSeconds": 0.1, "maxSeconds": 0.1}, "drainSeconds": 1, "gracePeriodSeconds": 1}
HASTY = {"readiness": {"failureThreshold": 1}}


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own, for its deployment on the shared hale."""
    return str(request.node.name.removeprefix("test_"))[:80]


@pytest.fixture
def apply(shared_hale: Hale, name: str) -> Iterator[Callable[..., str]]:
    """Apply a spec of test replicas under the test's name; deleted afterwards."""
    made: list[str] = []

    def deploy(**fields: object) -> str:
        made.append(shared_hale.apply(web_spec(name, **({"hale": QUICK} | fields))))  # type: ignore[arg-type]
        return made[-1]

    yield deploy
    for deployment in set(made):
        shared_hale.delete(deployment)


def first_event(hale: Hale, deployment: str, kind: str, count: int = 1) -> list[Json]:
    """The first `count` events of this kind, once they are there."""
    hale.wait(lambda: len(hale.events(deployment, kind)) >= count, what=f"{count} events {kind}")
    return hale.events(deployment, kind)[:count]


def seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


# --- hale can't start -----------------------------------------------------------------------


@contextmanager
def port_in_use() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("option", ["--api", "--gateway"])
def test_a_port_in_use_is_told_and_nothing_is_left_running(new_hale: NewHale, option: str) -> None:
    hale = new_hale()
    other = {"--api": "--gateway", "--gateway": "--api"}[option]
    with port_in_use() as address:
        refused = hale.cli("serve", option, address, other, "127.0.0.1:0")
    assert refused.returncode == 1
    assert f"cannot listen on {address}" in refused.stderr
    assert "in use" in refused.stderr
    assert option in refused.stderr.partition("hint")[2]
    assert "Traceback" not in refused.stderr
    assert hale.processes() == {}


def test_a_port_in_use_leaves_what_ran_before_as_it_was(new_hale: NewHale) -> None:
    hale = new_hale().start()
    web = hale.up(web_spec())
    before, gateway, gateway_address = hale.pids(web), hale.gateway_pids(), hale.gateway
    hale.kill()
    with port_in_use() as address:
        for options in (
            ("--api", address, "--gateway", gateway_address),
            ("--api", "127.0.0.1:0", "--gateway", address),
        ):
            assert hale.cli("serve", *options).returncode == 1
            assert hale.ask("web.localhost").status_code == 200
    assert hale.gateway_pids() == gateway
    hale.start()
    assert hale.pids(web) == before


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"this test needs to be allowed to mount: {done.stderr}"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount an empty file system in memory with these options; the folder."""
    with ExitStack() as stack:

        def new(options: str) -> Path:
            folder = tmp_path / "mounted"
            folder.mkdir()
            mount("-t", "tmpfs", "-o", f"mode=700,{options}", "hale-test", str(folder))
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield new


def refuses(hale: Hale) -> str:
    """What it says when it does not start."""
    refused = hale.cli("serve", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False), refused.stderr
    assert hale.processes() == {}
    return refused.stderr


def test_a_data_folder_that_cannot_be_written_is_told(
    new_hale: NewHale, mounted: Callable[..., Path]
) -> None:
    mounted("ro")
    assert "cannot serve from" in (told := refuses(new_hale("mounted")))
    assert ("ead-only file system" in told, "--data" in told) == (True, True)


def test_a_data_folder_with_a_file_in_its_way_is_told(new_hale: NewHale) -> None:
    hale = new_hale("in-the-way")
    hale.data.write_text("I was here before.")
    assert "cannot serve from" in refuses(hale)
    assert hale.data.read_text() == "I was here before."


def test_a_disk_without_room_is_told_at_the_start(new_hale: NewHale, mounted: Callable[..., Path]) -> None:
    folder = mounted("size=64k")
    fill(folder)
    told = refuses(new_hale("mounted"))
    assert "no space left" in told.lower() or "disk is full" in told


# --- the disk fills up ----------------------------------------------------------------------


def fill(folder: Path) -> Path:
    """Leave not a byte free; the file to remove."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_stops_changes_but_neither_traffic_nor_checks_and_all_is_well_with_room(
    new_hale: NewHale, mounted: Callable[..., Path]
) -> None:
    folder = mounted("size=64m")
    hale = new_hale("mounted").start()
    spec = web_spec(replicas=3, checks=HASTY, hale=QUICK, version="1")
    web = hale.up(spec)
    host = hale.host(web)
    unready, dead, well = hale.replicas(web)
    filler = fill(folder)

    # Changes are refused, with the reason.
    refused = hale.api.post(
        "deployments", json={"projectId": hale.project(), "config": spec | {"name": "another"}}
    )
    assert refused.status_code >= 400
    assert "the disk is full" in refused.json()["message"]

    # Traffic follows the checks all the same.
    hale.tell(unready, "/tell?readiness=503")
    hale.wait(
        lambda: unready["id"] not in {r["id"] for r in hale.replicas(web, ready=True)}, what="it is out"
    )
    os.kill(dead["pid"], signal.SIGKILL)

    def status_of(replica: Json) -> Json:
        return next(each for each in hale.replicas(web) if each["id"] == replica["id"])

    hale.wait(
        lambda: "no space left" in str(status_of(dead)["lastRestart"]),
        what=lambda: f"its status says why: {hale.health(web)}",
    )
    assert {hale.ask(host).json()["pid"] for _ in range(20)} == {well["pid"]}

    # With room again, everything goes on, and what happened is told.
    filler.unlink()
    hale.tell(unready, "/tell?readiness=200")
    hale.wait_ready(web, 3)
    assert any("no space left" in event["message"] for event in hale.events(web, "replica.start_failed"))
    assert hale.events(web, "replica.unready") != []
    hale.up(spec | web_spec(replicas=1, hale=QUICK, version="2"))
    assert hale.ask(host).json()["version"] == "2"
    assert [each["name"] for each in hale.get("deployments")["items"]] == ["web"]
    hale.end()


def test_down_leaves_no_process_on_a_full_disk_either(
    new_hale: NewHale, mounted: Callable[..., Path]
) -> None:
    folder = mounted("size=64m")
    hale = new_hale("mounted").start()
    hale.up(web_spec(replicas=2, hale=QUICK))
    fill(folder)
    done = hale.cli("down")
    assert (done.returncode, hale.processes()) == (0, {}), done.stderr


# --- commands that do not do ----------------------------------------------------------------


def script(path: Path, text: str, mode: int = 0o755) -> list[str]:
    path.write_text(text)
    path.chmod(mode)
    return [str(path)]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(lambda folder: ["no-such-command"], "command not found", id="not found"),
        pytest.param(
            lambda folder: script(folder / "x", "#!/bin/sh\n", 0o644), "ermission denied", id="no x"
        ),
        pytest.param(lambda folder: script(folder / "x", "\0\1\2"), "not a program", id="no program"),
        pytest.param(lambda folder: [str(folder)], "ermission denied", id="a folder"),
    ],
)
def test_a_command_that_cannot_be_started_says_why_and_is_tried_again(
    shared_hale: Hale,
    apply: Callable[..., str],
    tmp_path: Path,
    command: Callable[[Path], list[str]],
    message: str,
) -> None:
    web = apply(command=command(tmp_path), replicas=1)
    first, _ = first_event(shared_hale, web, "replica.start_failed", 2)
    assert (message in first["message"], first["level"]) == (True, "warning"), first
    (replica,) = shared_hale.replicas(web)
    assert (replica["ready"], replica["pid"], message in str(replica["lastRestart"])) == (False, None, True)
    assert shared_hale.ask(shared_hale.host(web)).status_code == 503
    apply(replicas=1)
    shared_hale.wait_healthy(web)


def test_a_command_that_exits_at_once_is_started_at_once_and_then_ever_more_slowly(
    shared_hale: Hale, apply: Callable[..., str]
) -> None:
    web = apply(command=["sh", "-c", "exit 7"], replicas=1, hale={})
    first, second = first_event(shared_hale, web, "replica.exited", 2)
    assert [link["kind"] for link in second["cause"]] == ["exit", "back-off"]
    assert "exited with code 7" in first["message"]
    assert first["message"].endswith("restart 1 at once")
    assert second["message"].endswith("restart 2 in 10 s")
    (replica,) = shared_hale.replicas(web)
    assert (replica["phase"], replica["restarts"], replica["next"]["action"]) == ("backoff", 1, "restart")
    assert seconds(second["cause"][0]["at"], replica["next"]["at"]) == pytest.approx(10, abs=0.01)


def test_the_back_off_doubles_to_its_maximum(shared_hale: Hale, apply: Callable[..., str]) -> None:
    web = apply(
        command=["sh", "-c", "exit 7"],
        replicas=1,
        hale={"backoff": {"initialSeconds": 0.2, "maxSeconds": 0.5}},
    )
    exits = first_event(shared_hale, web, "replica.exited", 5)
    told = [event["message"].partition("; ")[2] for event in exits]
    assert told == [
        "restart 1 at once",
        "restart 2 in 200 ms",
        "restart 3 in 400 ms",
        "restart 4 in 500 ms",
        "restart 5 in 500 ms",
    ]
    ended = [event["cause"][0]["at"] for event in exits]
    starts = [e["at"] for e in shared_hale.events(web, "replica.started")][1:5]
    for end, start, pause in zip(ended, starts, (0, 0.2, 0.4, 0.5), strict=False):
        assert seconds(end, start) >= pause - 0.01


@pytest.mark.parametrize("away", ["", "setsid "], ids=["in its session", "in another session"])
def test_what_a_command_leaves_behind_is_ended(
    shared_hale: Hale, apply: Callable[..., str], tmp_path: Path, away: str
) -> None:
    left = tmp_path / "left"
    text = f"{away}sleep 1000 & echo $! >> {left}.part; mv {left}.part {left}; exit 0"
    web = apply(command=["sh", "-c", text], replicas=1, hale={})
    (exited, *_) = first_event(shared_hale, web, "replica.exited", 2)
    assert "exited with code 0" in exited["message"]
    pids = [int(pid) for pid in left.read_text().split()]
    shared_hale.wait(lambda: not any(map(running, pids)), what=f"{pids} are ended")


def test_a_command_that_forks_away_is_ended_and_started_again(
    shared_hale: Hale, apply: Callable[..., str]
) -> None:
    web = apply(options=["--fork"], replicas=1)
    first_event(shared_hale, web, "replica.exited", 3)
    # Only what the newest attempt left is there, if anything is.
    apply(replicas=0)
    shared_hale.wait(lambda: shared_hale.replicas(web) == [], what="it is gone")

    def left() -> list[int]:
        return [pid for pid, command in shared_hale.processes().items() if "--fork" in command]

    shared_hale.wait(lambda: left() == [], what="nothing that it started is left")


def test_a_command_that_ignores_sigterm_is_killed_with_its_whole_group(
    shared_hale: Hale, apply: Callable[..., str], tmp_path: Path
) -> None:
    child = tmp_path / "child"
    text = f"trap '' TERM; sleep 1000 & echo $! > {child}; exec {sys.executable} {REPLICA}"
    web = apply(command=["sh", "-c", text], replicas=1, hale={"gracePeriodSeconds": 0.5})
    shared_hale.wait_healthy(web)
    (replica,) = shared_hale.replicas(web)
    apply(replicas=0, hale={"gracePeriodSeconds": 0.5})
    (stopped,) = first_event(shared_hale, web, "replica.stopped")
    assert [link["kind"] for link in stopped["cause"]] == ["retire", "stop", "exit"]
    asked, ended = stopped["cause"][1:]
    assert ended["message"].startswith("ended by SIGKILL")
    assert seconds(asked["at"], ended["at"]) >= 0.49
    shared_hale.wait(lambda: not running(replica["pid"]) and not running(int(child.read_text())))


# --- checks that fail -----------------------------------------------------------------------


def test_a_startup_that_never_passes_is_started_again_after_its_budget(
    shared_hale: Hale, apply: Callable[..., str]
) -> None:
    web = apply(options=["--startup", "503"], replicas=1, checks={"startup": {"failureThreshold": 2}})
    (failed,) = first_event(shared_hale, web, "replica.failed_check")
    (started,) = first_event(shared_hale, web, "replica.started")
    assert "startup check failed 2 of 2: 503" in failed["message"]
    assert seconds(started["at"], failed["at"]) >= 1.9
    first_event(shared_hale, web, "replica.started", 2)
    (replica,) = shared_hale.replicas(web)
    kinds = [link["kind"] for link in replica["lastRestart"]]
    assert (kinds, replica["restarts"]) == (["check", "stop", "exit", "back-off", "start"], 1)
    assert shared_hale.events(web, "replica.ready") == []
    assert shared_hale.ask(shared_hale.host(web)).status_code == 503


def test_a_failed_liveness_takes_out_of_traffic_first_and_tells_the_whole_chain(
    shared_hale: Hale, apply: Callable[..., str]
) -> None:
    web = apply(replicas=2, checks={"liveness": {"failureThreshold": 2}})
    shared_hale.wait_healthy(web)
    sick = shared_hale.replicas(web)[0]
    with shared_hale.load(shared_hale.host(web)) as load:
        load.flow(20)
        shared_hale.tell(sick, "/tell?liveness=500")
        shared_hale.wait(lambda: sick["pid"] not in shared_hale.pids(web), what="it has ended")
        well = shared_hale.wait_ready(web, 2)
        load.flow(20)
    assert (load.failures, load.reopened) == ([], 0)
    (back,) = [each for each in well if each["id"] == sick["id"]]
    chain = [(link["kind"], link["message"]) for link in back["lastRestart"]]
    assert [kind for kind, _ in chain] == ["check", "stop", "exit", "back-off", "start"]
    assert chain[0][1].startswith("liveness check failed 2 of 2: 500 in ")
    assert '"liveness is 500' in chain[0][1].replace("\\", "")
    assert chain[1][1] == "asked to end"
    assert chain[2][1].startswith("ended by SIGTERM after ")
    assert chain[3:] == [("back-off", "restart 1 at once"), ("start", "attempt 2 started")]
    times = [datetime.fromisoformat(link["at"]) for link in back["lastRestart"]]
    assert times == sorted(times)
    mine = [e["type"] for e in shared_hale.events(web, "replica.") if e["replicaId"] == sick["id"]]
    assert mine[mine.index("replica.failed_check") :] == [
        "replica.failed_check",
        "replica.stopping",
        "replica.exited",
        "replica.restarting",
        "replica.started",
        "replica.startup_passed",
        "replica.ready",
    ]


def test_a_replica_that_hangs_does_not_delay_the_checks_of_another(
    shared_hale: Hale, apply: Callable[..., str]
) -> None:
    web = apply(replicas=2, checks={"readiness": {"timeoutSeconds": 60}})
    shared_hale.wait_healthy(web)
    hangs, well = shared_hale.replicas(web)
    shared_hale.tell(hangs, "/tell?hang=readiness")
    count = shared_hale.who(hangs)["checks"]["readiness"]
    shared_hale.wait(lambda: shared_hale.who(hangs)["checks"]["readiness"] > count, what="a check hangs")
    hung, before = (shared_hale.who(each)["checks"]["readiness"] for each in (hangs, well))
    shared_hale.wait(lambda: shared_hale.who(well)["checks"]["readiness"] >= before + 3, what="three checks")
    assert shared_hale.who(hangs)["checks"]["readiness"] == hung


def test_a_deployment_in_trouble_does_not_keep_another_from_starting(
    shared_hale: Hale, apply: Callable[..., str]
) -> None:
    apply(command=["sh", "-c", "exit 7"], replicas=20)
    well = shared_hale.up(web_spec("well beside the one in trouble", replicas=2, hale=QUICK), within=30)
    assert shared_hale.ask(shared_hale.host(well)).status_code == 200
    shared_hale.delete(well)


# --- requests that are refused --------------------------------------------------------------

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer", "Basic cGFwZXJzcGFjZTp4"])
def test_without_the_token_nothing_is_told_and_nothing_done(
    shared_hale: Hale, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization is not None else {}
    with httpx.Client(base_url=shared_hale.api.base_url, headers=headers, trust_env=False) as stranger:
        answers = [
            stranger.get("deployments"),
            stranger.get("server"),
            stranger.get(f"deployments/{UNKNOWN}/health"),
            stranger.post("deployments", json={"config": web_spec("strangers")}),
            stranger.post("down"),
        ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "UNAUTHORIZED")}
    assert "strangers" not in {each["name"] for each in shared_hale.get("deployments")["items"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/health"),
        ("GET", "/events"),
        ("GET", "/history"),
        ("GET", "/spec"),
        ("POST", "/restart"),
    ],
)
@pytest.mark.parametrize("id_", [UNKNOWN, "..%2f..%2fetc", "%00", "x" * 1000])
def test_an_unknown_deployment_is_404(shared_hale: Hale, method: str, path: str, id_: str) -> None:
    answer = shared_hale.api.request(method, f"deployments/{id_}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_body_that_is_too_large_is_refused(shared_hale: Hale) -> None:
    answer = shared_hale.api.post("deployments", content=b" " * ((1 << 20) + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert shared_hale.get("health") == "HEALTHY"


def test_an_invalid_spec_names_every_problem_and_changes_nothing(
    shared_hale: Hale, apply: Callable[..., str], name: str
) -> None:
    web = apply(replicas=2, version="1")
    shared_hale.wait_healthy(web)
    before = shared_hale.pids(web), shared_hale.get(f"deployments/{web}/history")
    invalid = web_spec(name, replicas=-1, version="2", checks={"liveness": {"failureThreshold": 0}}) | {
        "nam": 1
    }
    answer = shared_hale.api.post("deployments", json={"projectId": shared_hale.project(), "config": invalid})
    issues = " ".join(issue["message"] for issue in answer.json()["issues"])
    assert answer.status_code == 400
    assert [field in issues for field in ("resources.replicas", "failureThreshold", "nam")] == [True] * 3
    assert (shared_hale.pids(web), shared_hale.get(f"deployments/{web}/history")) == before
    assert shared_hale.ask(shared_hale.host(web)).json()["version"] == "1"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"replicas": "many"}, "resources.replicas", id="invalid"),
        pytest.param({"image": "nginx"}, "image", id="an image, and no engine for it"),
    ],
)
def test_a_refused_new_spec_leaves_no_deployment(
    shared_hale: Hale, name: str, fields: dict[str, Json], field: str
) -> None:
    answer = shared_hale.api.post(
        "deployments", json={"projectId": shared_hale.project(), "config": web_spec(name, **fields)}
    )
    assert (answer.status_code, field in answer.text) == (400, True), answer.text
    assert name not in {each["name"] for each in shared_hale.get("deployments")["items"]}


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        "../../../escaped",
        "/escaped/absolutely",
        "..",
        "Ünïcødé 名前 🚀",
        "n" * 255,
        "escaped;$(id)`id`\\",
        "-rf",
        "%2e%2e",
    ],
    ids=["upwards", "absolute", "dots", "unicode", "255", "shell", "option", "encoded"],
)
def test_a_name_is_any_text_and_never_a_path(shared_hale: Hale, named: str) -> None:
    web = shared_hale.up(web_spec(named, replicas=1, hale=QUICK))
    assert shared_hale.ask(shared_hale.host(web)).status_code == 200
    slug = shared_hale.host(web).removesuffix(".localhost")
    assert (slug.isascii(), 1 <= len(slug) <= 40, set(slug) & set("/.%_ ")) == (True, True, set())
    shown = shared_hale.cli("get", "--", named)
    assert (shown.returncode, named[:30] in shown.stdout) == (0, True), shown.stderr
    around = [*shared_hale.data.parent.iterdir(), *shared_hale.data.parent.parent.iterdir()]
    paths = [str(path.relative_to(shared_hale.data)) for path in shared_hale.data.rglob("*")]
    assert [path for path in paths if "escaped" in path or "nnn" in path or "名前" in path] == []
    assert [path for path in around if "escaped" in path.name] == []
    shared_hale.delete(web)


@pytest.mark.parametrize("named", ["", "n" * 256, "two\nlines", "nul\0", "tab\t", "‮drawkcab"])
def test_a_name_that_is_no_printable_text_is_refused(shared_hale: Hale, named: str) -> None:
    answer = shared_hale.api.post(
        "deployments", json={"projectId": shared_hale.project(), "config": web_spec(named)}
    )
    assert (answer.status_code, "name" in answer.json()["message"]) == (400, True)
