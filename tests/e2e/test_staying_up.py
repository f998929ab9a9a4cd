"""Staying up: nothing that ends, and no change that is made, costs a request or a deployment."""

import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from kit.daemon import Hale, Json, web_spec
from kit.processes import end_all, halt
from kit.until import until

pytestmark = pytest.mark.e2e

NewHale = Callable[..., Hale]

FREE_PORTS = ("--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
HASTY = {"readiness": {"failureThreshold": 1}}
OUT_OF_TRAFFIC = {"unready", "retired", "failed_check", "exited", "stopped"}


def last_event(hale: Hale, deployment: str) -> int:
    return int(hale.events(deployment)[-1]["id"])


def least_ready(events: Sequence[Json], after: int) -> int:
    """The fewest replicas that were ready at any time after that event, as the events tell it."""
    ready: set[str] = set()
    least = len(events)
    for event in events:
        kind = event["type"].removeprefix("replica.")
        if kind == "ready":
            ready.add(event["replicaId"])
        elif kind in OUT_OF_TRAFFIC:
            ready.discard(event["replicaId"])
        if event["id"] >= after:
            least = min(least, len(ready))
    return least


def running(hale: Hale, deployment: str) -> list[tuple[str, int, int, bool]]:
    """What must not change when the daemon comes and goes."""
    return [(r["id"], r["pid"], r["restarts"], r["ready"]) for r in hale.replicas(deployment)]


def answers(hale: Hale, host: str) -> bool:
    try:
        return hale.ask(host).status_code == 200
    except httpx.TransportError:
        return False


def pids_that_answer(hale: Hale, host: str, requests: int = 20) -> set[int]:
    found = [hale.ask(host) for _ in range(requests)]
    assert [answer.status_code for answer in found] == [200] * requests
    return {answer.json()["pid"] for answer in found}


def version(hale: Hale, deployment: str) -> str:
    answer = hale.ask(hale.host(deployment))
    assert answer.status_code == 200, (answer.text, hale.health(deployment), hale.events(deployment))
    return str(answer.json()["version"])


# --- changes under load ---------------------------------------------------------------------


def test_a_rolling_update_loses_no_request_and_keeps_all_replicas_that_were_promised(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=3, version="1"))
    before = last_event(hale, web)
    with hale.load(hale.host(web)) as load:
        load.flow()
        hale.up(web_spec(replicas=3, version="2"))
        updated = time.monotonic()
        load.flow()
    assert (load.failures, load.reopened) == ([], 0)
    assert set(load.versions()) == {"1", "2"}
    assert set(load.versions(since=updated)) == {"2"}
    assert least_ready(hale.events(web), before) == 3


def test_scaling_up_and_down_loses_no_request_and_keeps_the_replicas_that_stay(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=2))
    few = hale.pids(web)
    with hale.load(hale.host(web)) as load:
        load.flow()
        assert hale.cli("scale", "web", "4").returncode == 0
        hale.wait_ready(web, 4)
        many = hale.pids(web)
        hale.wait(lambda: len(load.replicas()) == 4, what="all four answer requests")
        assert hale.cli("scale", "web", "1").returncode == 0
        hale.wait(lambda: len(hale.pids(web)) == 1, what="three have left")
        load.flow()
    assert (load.failures, load.reopened) == ([], 0)
    assert set(few) < set(many)
    assert set(hale.pids(web)) < set(few)


def test_a_restart_loses_no_request_and_replaces_every_replica(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=2))
    old, before = set(hale.pids(web)), last_event(hale, web)
    with hale.load(hale.host(web)) as load:
        load.flow()
        assert hale.cli("restart", "web").returncode == 0
        hale.wait(lambda: not old & set(hale.pids(web)), what="the old replicas are gone")
        hale.wait_ready(web, 2)
        load.flow()
    assert (load.failures, load.reopened) == ([], 0)
    assert least_ready(hale.events(web), before) == 2


# --- something is killed --------------------------------------------------------------------


def test_a_killed_replica_costs_no_get_and_is_back_at_once(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=2))
    victim = hale.replicas(web)[0]
    with hale.load(hale.host(web)) as load:
        load.flow()
        os.kill(victim["pid"], signal.SIGKILL)
        hale.wait(lambda: victim["pid"] not in hale.pids(web) and len(hale.pids(web)) == 2, what="a new one")
        back = next(each for each in hale.wait_ready(web, 2) if each["id"] == victim["id"])
        hale.wait(lambda: load.replicas()[str(back["pid"])], what="the new attempt answers requests")
    assert load.failures == []
    assert (back["attempt"], back["restarts"]) == (2, 1)
    exit_, back_off, start = back["lastRestart"]
    assert exit_["message"].startswith("ended by SIGKILL")
    assert back_off["message"] == "restart 1 at once"
    assert start["message"] == "attempt 2 started"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_costs_no_request_and_the_next_one_takes_everything_over(
    hale: Hale, number: signal.Signals
) -> None:
    web = hale.up(web_spec(replicas=2))
    before, gateway, told = running(hale, web), hale.gateway_pids(), last_event(hale, web)
    with hale.load(hale.host(web)) as load:
        load.flow()
        assert hale.kill(number) == (0 if number is signal.SIGTERM else -number)
        load.flow()
        hale.start()
        checked = [hale.who(each)["checks"] for each in hale.replicas(web)]
        hale.wait(
            lambda: all(
                hale.who(each)["checks"][kind] > checks[kind] + 1
                for each, checks in zip(hale.replicas(web), checked, strict=True)
                for kind in ("readiness", "liveness")
            ),
            what="checks go on",
        )
        load.flow()
    assert (load.failures, load.reopened) == ([], 0)
    assert running(hale, web) == before
    assert hale.gateway_pids() == gateway
    assert [event["type"] for event in hale.events(web) if event["id"] > told] == []


def test_verdicts_stand_while_the_daemon_is_away(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=2, checks=HASTY))
    out, _ = hale.replicas(web)
    hale.tell(out, "/tell?readiness=503")
    (serving,) = hale.wait_ready(web, 1)
    hale.kill()
    assert pids_that_answer(hale, host := "web.localhost") == {serving["pid"]}
    hale.start()
    assert [each["pid"] for each in hale.replicas(web, ready=True)] == [serving["pid"]]
    assert pids_that_answer(hale, host) == {serving["pid"]}
    hale.tell(out, "/tell?readiness=200")
    hale.wait_ready(web, 2)


def test_what_happened_while_the_daemon_was_away_is_caught_up_with(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=3, checks=HASTY))
    dead, unready, well = hale.replicas(web)
    hale.kill()
    hale.tell(dead, "/exit?code=3")
    hale.tell(unready, "/tell?readiness=503")
    hale.start()
    hale.wait(lambda: {r["pid"] for r in hale.replicas(web, ready=True)} > {well["pid"]}, what="a new one")
    hale.wait_ready(web, 2)
    now = {each["id"]: each for each in hale.replicas(web)}
    assert now[dead["id"]]["lastRestart"][0]["message"].startswith("exited with code 3")
    assert (now[unready["id"]]["pid"], now[unready["id"]]["restarts"]) == (unready["pid"], 0)


def test_down_leaves_no_process_and_the_next_serve_brings_the_deployments_back(hale: Hale) -> None:
    web = hale.up(web_spec("web", replicas=2, version="7"))
    off = hale.apply(web_spec("off", enabled=False))
    assert hale.cli("down").returncode == 0
    assert hale.processes() == {}
    hale.start()
    hale.wait_healthy(web)
    assert version(hale, web) == "7"
    assert (len(hale.replicas(web)), hale.replicas(off)) == (2, [])


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_a_killed_haproxy_is_back_with_the_same_table(
    hale: Hale, victim: str, record_property: Callable[[str, object], None]
) -> None:
    web = hale.up(web_spec("web", replicas=2, basicAuthKey="sesame"))
    other = hale.up(web_spec("other", replicas=2, checks=HASTY))
    before = hale.pids(web), hale.pids(other)
    out, _ = hale.replicas(other)
    hale.tell(out, "/tell?readiness=503")
    (serving,) = hale.wait_ready(other, 1)
    old = hale.gateway_pids()
    os.kill(old[victim == "worker"], signal.SIGKILL)
    began = time.monotonic()
    host = hale.host(other)
    until(lambda: not set(old) & set(hale.processes()) and answers(hale, host), within=10, every=0.01)
    record_property("seconds until the gateway was back", round(time.monotonic() - began, 3))
    assert pids_that_answer(hale, host) == {serving["pid"]}
    assert hale.ask(hale.host(web)).status_code == 401
    assert hale.ask(hale.host(web), auth=("paperspace", "sesame")).status_code == 200
    hale.tell(out, "/tell?readiness=200")
    hale.wait_ready(other, 2)
    hale.wait(lambda: pids_that_answer(hale, host) == set(before[1]), what="both answer again")
    assert (hale.pids(web), hale.pids(other)) == before


def test_a_haproxy_killed_while_the_daemon_is_away_is_back_with_the_next_one(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=2))
    before = running(hale, web)
    pids = hale.gateway_pids()
    hale.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    hale.start()
    hale.wait(lambda: answers(hale, "web.localhost"), what="the gateway is back")
    assert running(hale, web) == before


def test_without_its_keeper_replicas_serve_on_and_new_ones_can_be_started(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=2))
    before, keeper = running(hale, web), hale.keeper_pid()
    with hale.load(hale.host(web)) as load:
        load.flow()
        os.kill(keeper, signal.SIGKILL)
        load.flow()
        assert running(hale, web) == before
        victim = before[0][1]
        os.kill(victim, signal.SIGKILL)
        hale.wait(lambda: victim not in hale.pids(web) and len(hale.pids(web)) == 2, what="a new one")
        hale.wait_ready(web, 2)
    assert load.failures == []
    assert hale.keeper_pid() != keeper


def test_everything_killed_at_once_comes_back(hale: Hale) -> None:
    names = ("web", "other", "third")
    deployments = [hale.up(web_spec(name, replicas=2, version=name)) for name in names]
    old = set(hale.processes())
    end_all(hale.data)
    hale.kill()
    hale.start()
    for name, deployment in zip(names, deployments, strict=True):
        hale.wait_healthy(deployment)
        assert version(hale, deployment) == name
    assert not old & set(hale.processes())


# --- a power cut ----------------------------------------------------------------------------


@contextmanager
def standing_still(hale: Hale):  # type: ignore[no-untyped-def]
    """Whoever writes to the data folder stands still, as it does when the power fails."""
    assert hale.process is not None
    writers = [hale.process.pid, hale.keeper_pid(), *hale.gateway_pids()]
    for pid in writers:
        halt(pid)
    try:
        yield
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGCONT)


def copy_of(hale: Hale, folder: Path) -> None:
    """The data folder as it is now, sockets aside: they are of no use after a power cut."""

    def sockets(where: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(where, name).is_socket()]

    shutil.copytree(hale.data, folder, ignore=sockets, symlinks=True)
    for record in folder.glob("replicas/**/launch.json"):
        # The machine has been started anew.
        record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "an earlier one"}))


class Changes(threading.Thread):
    """Changes one deployment after the other without end; `promised` is the last version acknowledged."""

    def __init__(self, hale: Hale) -> None:
        super().__init__()
        self.promised: dict[str, int] = {}
        self._hale = hale
        self._over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            name = f"web-{number % 4}"
            spec = web_spec(name, replicas=1 + number % 2, version=str(number), hale={"drainSeconds": 0})
            self._hale.apply(spec)
            self.promised[name] = number

    def __enter__(self) -> "Changes":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def test_after_a_power_cut_at_any_moment_every_deployment_comes_back(
    new_hale: NewHale, tmp_path: Path
) -> None:
    hale = new_hale().start()
    moments: list[tuple[Path, dict[str, int]]] = []
    with Changes(hale) as changes:
        hale.wait(lambda: len(changes.promised) == 4, what="four deployments")
        for number in range(4):
            time.sleep(random.uniform(0.05, 0.4))  # any moment
            promised = dict(changes.promised)
            with standing_still(hale):
                copy_of(hale, tmp_path / f"copy-{number}")
            moments.append((tmp_path / f"copy-{number}", promised))
    hale.end()
    for folder, promised in moments:
        copy = new_hale(folder.name).start()
        listed = {each["name"]: each["id"] for each in copy.get("deployments")["items"]}
        assert set(listed) >= set(promised)
        for name, number in promised.items():
            copy.wait_healthy(listed[name])
            assert int(version(copy, listed[name])) >= number
        copy.end()


# --- a database that can't be used ----------------------------------------------------------


def damage(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(database.stat().st_size - 100))


def overwrite(database: Path) -> None:
    database.write_text("this is no database\n" * 1000)


def make_newer(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 999")


def files(database: Path) -> dict[str, bytes]:
    """The database and its log (none is as good as an empty one)."""
    log = database.with_name(f"{database.name}-wal")
    return {path.name: path.read_bytes() for path in (database, log) if path.exists() and path.stat().st_size}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(damage, "damaged", id="damaged"),
        pytest.param(overwrite, "not a database", id="overwritten"),
        pytest.param(make_newer, "a newer hale made it (schema version 999", id="newer"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_and_left_as_it_was(
    hale: Hale, spoil: Callable[[Path], None], message: str
) -> None:
    hale.up(web_spec())
    hale.kill()
    database = hale.data / "hale.db"
    spoil(database)
    before, processes = files(database), set(hale.processes())
    refused = hale.cli("serve", *FREE_PORTS)
    assert refused.returncode == 1
    assert (message in refused.stderr, "Traceback" in refused.stderr) == (True, False), refused.stderr
    assert files(database) == before
    assert set(hale.processes()) == processes
    assert hale.ask("web.localhost").status_code == 200


def test_a_second_daemon_on_the_same_folder_is_refused_and_disturbs_nothing(hale: Hale) -> None:
    web = hale.up(web_spec())
    before, gateway = running(hale, web), hale.gateway_pids()
    refused = hale.cli("serve", *FREE_PORTS)
    assert (refused.returncode, "another hale serves from it" in refused.stderr) == (1, True)
    assert hale.cli("list").returncode == 0
    assert (running(hale, web), hale.gateway_pids()) == (before, gateway)
