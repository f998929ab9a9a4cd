"""Containers: whatever ends or is changed, the rest serves on, and what was asked for comes back."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.containers import HASTY, container, container_spec, counting, kinds, places, run_in
from kit.daemon import Hale, Json, web_spec
from kit.load import Load
from kit.podman import Podman

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NewHale = Callable[..., Hale]
HOST = "web.localhost"


@pytest.fixture
def hale(podman: Podman, new_hale: NewHale) -> Hale:
    """A hale that runs, with a Podman that outlives it: what is removed under it comes back."""
    return new_hale(env={"DOCKER_HOST": podman.url}).start()


def none_lost(load: Load, *, killed: bool = False) -> None:
    """Not one request of it failed, and there were many.

    What was `killed` may have been in the middle of an answer: that one is cut off, and can't be asked for
    again by anybody but who asked.
    """
    lost = [each for each in load.failures if not (killed and "IncompleteRead" in each.error)]
    assert (lost[:3], len(load.failures) < 5, load.count > 100) == ([], True, True)


def running(podman: Podman) -> list[tuple[str, str]]:
    """Ids and start times of what runs: other ones are other containers."""
    listed = podman.run("ps", "--sync", "--no-trunc", "--format", "{{.ID}} {{.StartedAt}}").splitlines()
    return sorted((line.partition(" ")[0], line.partition(" ")[2]) for line in listed)


def apply_soon(hale: Hale, spec: dict[str, Json]) -> str:
    """Apply it once hale has met the engine that was started just now; the deployment's id."""
    made: Json = {}

    def accepted() -> bool:
        answer = hale.api.post("deployments", json={"projectId": hale.project(), "config": spec})
        made.update(answer.json())
        return answer.status_code == 200

    hale.wait(accepted, within=30, what=lambda: f"it is accepted: {made}")
    return str(made["deploymentId"])


def killed_inside(podman: Podman, pid: int) -> None:
    """Kill a process of Podman's world, with no word to Podman."""
    subprocess.run([*podman._inside("kill", "-KILL", str(pid))], check=True)


def healed(hale: Hale, deployment: str, replica: Json, count: int = 2) -> Json:
    """The replica, once it was restarted and all are ready; and the event of how it had ended."""

    def back() -> Json:
        found = {each["id"]: each for each in hale.replicas(deployment, ready=True)}
        restarted = found.get(replica["id"])
        return restarted if len(found) == count and restarted and restarted["restarts"] else None

    hale.wait(back, what=lambda: f"{replica['id']} is back: {hale.health(deployment)}")
    return next(e for e in hale.events(deployment, "replica.exited") if e["replicaId"] == replica["id"])


def numbers(hale: Hale, deployment: str, replica: Json) -> list[int]:
    """Those that the first attempt of the replica has written, as its log has them."""
    shown = hale.cli("logs", deployment, "--replica", replica["id"])
    assert shown.returncode == 0, shown.stderr
    return [int(line.split()[-1]) for line in shown.stdout.splitlines() if line.split()[-2:-1] == ["n"]]


# --- hale goes and comes ----------------------------------------------------------------------


def test_a_killed_daemon_loses_no_request_no_container_and_no_line(hale: Hale, podman: Podman) -> None:
    web = hale.up(container_spec(command=counting()))
    before, runs = places(hale.replicas(web)), running(podman)
    one, other = hale.replicas(web)
    with hale.load(HOST) as load:
        load.flow()
        hale.kill()
        load.flow(200)
        hale.start()
        hale.wait_ready(web, 2)
        load.flow()
        assert (places(hale.replicas(web)), running(podman)) == (before, runs)
        for each in (one, other):
            written = numbers(hale, web, each)
            assert written == list(range(len(written)))
            assert len(written) > 100

        # One that ends while nobody looks is found.
        hale.kill()
        podman.run("kill", container(podman, one))
        load.flow(200)
        hale.start()
        exited = healed(hale, web, one)
        load.flow()
    none_lost(load, killed=True)
    assert kinds(exited)[0] == "exit"
    assert [(r["id"], r["restarts"]) for r in hale.replicas(web) if r["id"] == other["id"]] == [
        (other["id"], 0)
    ]


def test_down_ends_all_and_the_next_serve_brings_it_back(hale: Hale, podman: Podman) -> None:
    hale.up(container_spec())
    done = hale.cli("down")
    assert (done.returncode, hale.processes()) == (0, {}), done.stderr
    assert running(podman) == []
    hale.start()
    (web,) = [each["id"] for each in hale.get("deployments")["items"]]
    hale.wait_healthy(web)
    assert (hale.ask(HOST).text, len(running(podman))) == ("1\n", 2)


# --- Podman goes and comes --------------------------------------------------------------------


def test_a_restart_of_podman_restarts_nothing_and_loses_no_request(hale: Hale, podman: Podman) -> None:
    web = hale.up(container_spec(replicas=3))
    before, runs = places(hale.replicas(web)), running(podman)
    with hale.load(HOST) as load:
        load.flow()
        podman.restart()
        load.flow()
        hale.wait_ready(web, 3)
        assert (places(hale.replicas(web)), running(podman)) == (before, runs)

        # And while a rollout is under way.
        apply_soon(hale, container_spec(image="localhost/web:2", replicas=3))
        hale.wait(lambda: {each["revision"] for each in hale.replicas(web)} == {1, 2}, what="both are there")
        podman.restart()
        hale.wait_healthy(web)
        load.flow()
    none_lost(load)
    assert {hale.ask(HOST).text for _ in range(10)} == {"2\n"}
    hale.wait(lambda: len(running(podman)) == 3, what="the old ones have ended")
    assert hale.events(web, "replica.exited") == []


def test_without_podman_traffic_flows_and_what_ends_leaves_it_and_comes_back(
    hale: Hale, podman: Podman
) -> None:
    web = hale.up(container_spec(checks=HASTY))
    dies, stays = hale.replicas(web)
    pid = podman.inspect(container(podman, dies))["State"]["Pid"]
    with hale.load(HOST) as load:
        load.flow()
        podman.stop()
        load.flow(200)
        shown = hale.cli("get", "web")
        assert (shown.returncode, dies["id"][:8] in shown.stdout) == (0, True), shown.stderr
        killed_inside(podman, pid)
        (ready,) = hale.wait_ready(web, 1)
        assert ready["id"] == stays["id"]
        load.flow(200)
        podman.start()
        healed(hale, web, dies)
        load.flow()
    none_lost(load, killed=True)
    assert [r["restarts"] for r in hale.replicas(web) if r["id"] == stays["id"]] == [0]


# --- containers end ---------------------------------------------------------------------------


ENDING = """
/serve &
server=$!
while kill -0 $server; do
    if test -e /www/code; then exit 7; fi
    if test -e /www/hungry; then x=x; while :; do x=$x$x; done; fi
    sleep 0.1
done
"""
WAYS_TO_END = {
    "removed": lambda podman, name: podman.run("rm", "--force", "--time", "0", name),
    "killed": lambda podman, name: podman.run("kill", name),
    "ended": lambda podman, name: podman.run("exec", name, "touch", "/www/code"),
    "hungry": lambda podman, name: podman.run("exec", name, "touch", "/www/hungry"),
}


def test_however_a_container_ends_it_is_told_apart_and_started_again(
    podman: Podman, new_hale: NewHale, tmp_path: Path
) -> None:
    machines = tmp_path / "machines.toml"
    machines.write_text('[machines.small]\ncpus = 1\nmemory = "32 MiB"\n')
    hale = new_hale(env={"DOCKER_HOST": podman.url}, options=["--machines", str(machines)]).start()
    resources = {"machineType": "small", "ports": [8000], "replicas": 2}
    web = hale.up(container_spec(checks=HASTY, command=["sh", "-c", ENDING], resources=resources))
    ends = {}
    with hale.load(HOST) as load:
        load.flow()
        for seen, (what, end) in enumerate(WAYS_TO_END.items()):
            end(podman, container(podman, hale.replicas(web)[0]))
            hale.wait(lambda seen=seen: len(hale.events(web, "replica.exited")) > seen, what=what)
            hale.wait_ready(web, 2)
            ends[what] = hale.events(web, "replica.exited")[-1]["cause"][0]["message"]
            load.flow()
    none_lost(load, killed=True)
    assert {what: re.sub(r" after [0-9.]+ m?s", "", message) for what, message in ends.items()} == {
        "removed": "ended: its container was removed",
        "killed": "ended by SIGKILL",
        "ended": "exited with code 7",
        "hungry": "ended by the kernel: it used up its memory",
    }


# --- checks -----------------------------------------------------------------------------------

BARE = ["sh", "-c", "mkdir -p /www; echo bare >/www/index.html; httpd -f -p $PORT -h /www & wait"]
"""A server for which no check passes until its file is made."""


def test_a_container_is_started_only_by_its_startup_and_gets_traffic_only_when_it_is_ready(
    hale: Hale, podman: Podman
) -> None:
    checks = {"startup": {"failureThreshold": 600}, **HASTY}
    web = hale.apply(container_spec(replicas=1, command=BARE, checks=checks))
    hale.wait(lambda: hale.events(web, "check.failed"), what="startup has failed")
    (replica,) = hale.replicas(web)
    assert (replica["phase"], replica["ready"], hale.ask(HOST).status_code) == ("starting", False, 503)
    run_in(podman, replica, "touch", "/www/liveness", "/www/startup")
    hale.wait(lambda: hale.events(web, "replica.startup_passed"), what="startup has passed")
    assert (hale.replicas(web)[0]["ready"], hale.ask(HOST).status_code) == (False, 503)
    run_in(podman, replica, "touch", "/www/readiness")
    hale.wait_healthy(web)
    assert (hale.ask(HOST).text, hale.replicas(web)[0]["restarts"]) == ("bare\n", 0)


def test_a_failed_check_costs_no_request_and_heals(hale: Hale, podman: Podman) -> None:
    web = hale.up(container_spec(checks=HASTY))
    sick, well = hale.replicas(web)
    before = places([sick, well])
    with hale.load(HOST) as load:
        load.flow()
        run_in(podman, sick, "rm", "/www/readiness")
        hale.wait_ready(web, 1)
        load.flow()
        run_in(podman, sick, "touch", "/www/readiness")
        assert places(hale.wait_ready(web, 2)) == before
        run_in(podman, sick, "rm", "/www/liveness")
        exited = healed(hale, web, sick)
        load.flow()
    none_lost(load)
    assert kinds(exited) == ["check", "stop", "exit", "back-off"]
    assert exited["cause"][0]["message"].startswith("liveness check failed 3 of 3: 404")


SLOW = "if test -e /www/slow; then sleep 6543; fi; test -e /www/readiness"


def test_a_command_as_a_check_passes_fails_and_times_out_and_nothing_is_left_of_it(
    hale: Hale, podman: Podman
) -> None:
    spec = container_spec(replicas=1)
    readiness = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    spec["healthChecks"]["readiness"] = {"exec": {"command": ["sh", "-c", SLOW]}, **readiness}
    web = hale.up(spec)
    (replica,) = hale.replicas(web)
    for change, back, words in (
        (("rm", "/www/readiness"), ("touch", "/www/readiness"), "failed 1 of 1: exit 1 in "),
        (("touch", "/www/slow"), ("rm", "/www/slow"), "no exit within 1 s"),
    ):
        run_in(podman, replica, *change)
        hale.wait_ready(web, 0)
        assert words in hale.events(web, "replica.unready")[-1]["message"]
        run_in(podman, replica, *back)
        hale.wait_ready(web, 1)
    assert "sleep 6543" not in run_in(podman, replica, "ps")
    assert hale.replicas(web)[0]["restarts"] == 0


# --- what else is on the machine --------------------------------------------------------------


def test_two_hales_and_what_is_neithers_leave_each_other_alone(
    hale: Hale, new_hale: NewHale, podman: Podman
) -> None:
    podman.run("run", "--detach", "--name", "foreign", "localhost/busybox:1")
    other = new_hale("other", env={"DOCKER_HOST": podman.url}).start()
    ours, theirs = hale.up(container_spec(replicas=1)), other.up(container_spec(replicas=1))
    process = hale.up(web_spec("process", replicas=1))
    assert (hale.ask(HOST).text, hale.ask("process.localhost").status_code) == ("1\n", 200)
    kept = places(other.replicas(theirs))
    hale.kill()
    hale.start()
    hale.delete(ours)
    hale.wait(lambda: len(podman.containers()) == 2, what="its container is removed")
    assert (hale.replicas(process)[0]["ready"], hale.cli("down").returncode) == (True, 0)
    assert (places(other.replicas(theirs)), other.ask(HOST).text) == (kept, "1\n")
    other.delete(theirs)
    other.wait(lambda: podman.containers() == ["foreign"], what="its container is removed, too")
    assert other.cli("down").returncode == 0
    assert podman.inspect("foreign")["State"]["Running"]
    assert podman.run("network", "ls", "--format", "{{.Name}}").split() == ["podman"]
    assert [path for path in (hale.data / "containers").rglob("*") if path.is_dir()] == []


def test_without_an_engine_processes_run_and_images_wait_for_one(podman: Podman, new_hale: NewHale) -> None:
    podman.stop()
    hale = new_hale(env={"DOCKER_HOST": podman.url}).start()
    hale.up(web_spec("process", replicas=1))
    path = hale.data.with_name("hale.yaml")
    path.write_text(json.dumps(container_spec(replicas=1)))
    refused = hale.cli("apply", str(path))
    assert (refused.returncode, str(podman.socket) in refused.stderr) == (1, True), refused.stderr
    assert "apt install podman" in refused.stderr
    podman.start()
    hale.wait(lambda: hale.cli("apply", str(path), "--wait").returncode == 0, what="the same is accepted")
    assert (hale.ask(HOST).text, hale.ask("process.localhost").status_code) == ("1\n", 200)
