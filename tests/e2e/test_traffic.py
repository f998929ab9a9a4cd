"""Traffic: who gets which request, what passes through unchanged, what is asked again and what never is."""

import hashlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from kit.daemon import Hale, Json, web_spec
from websockets.sync.client import connect

pytestmark = pytest.mark.e2e

WEBSOCKET_REPLICA = Path(__file__).parents[1] / "kit" / "websocket_replica.py"
PATIENT = {kind: {"failureThreshold": 60} for kind in ("readiness", "liveness")}
HASTY = {"readiness": {"failureThreshold": 1}}
MIB = 1 << 20

Up = Callable[..., str]


@pytest.fixture
def hale(shared_hale: Hale) -> Hale:
    return shared_hale


@pytest.fixture
def up(hale: Hale, request: pytest.FixtureRequest) -> Iterator[Up]:
    """Deploy test replicas under a name of this test; the deployment's id. Deleted afterwards."""
    made: list[str] = []

    def deploy(*, name: str = "", **fields: object) -> str:
        own = f"{request.node.name.removeprefix('test_')[:60]} {name}".strip()
        fields = {"hale": {"drainSeconds": 1, "gracePeriodSeconds": 1}} | fields
        made.append(hale.up(web_spec(own, **fields)))  # type: ignore[arg-type]
        return made[-1]

    yield deploy
    for deployment in set(made):
        hale.delete(deployment)


# --- host names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(lambda slug, port, id_: slug, id="slug"),
        pytest.param(lambda slug, port, id_: f"d{id_.replace('-', '')}.localhost", id="id"),
        pytest.param(lambda slug, port, id_: slug.upper(), id="upper case"),
        pytest.param(lambda slug, port, id_: f"{slug}:{port}", id="with the port"),
        pytest.param(lambda slug, port, id_: f"{slug}:1", id="with any port"),
        pytest.param(lambda slug, port, id_: f"{slug}.", id="with a final dot"),
    ],
)
def test_a_deployment_answers_to_its_host_names(
    hale: Hale, up: Up, spelled: Callable[[str, str, str], str]
) -> None:
    web = up(replicas=1, version="1")
    host = spelled(hale.host(web), hale.gateway.rpartition(":")[2], web)
    answer = hale.ask(host)
    assert (answer.status_code, answer.headers.get("x-version")) == (200, "1")


def test_each_host_leads_to_its_own_deployment(hale: Hale, up: Up) -> None:
    one, two = up(name="1", replicas=1, version="one"), up(name="2", replicas=1, version="two")
    for _ in range(5):
        assert hale.ask(hale.host(one)).json()["version"] == "one"
        assert hale.ask(hale.host(two)).json()["version"] == "two"


@pytest.mark.parametrize("host", ["nobody.localhost", "localhost", "127.0.0.1", "web.example.com"])
def test_a_host_that_nobody_has_is_404(hale: Hale, host: str) -> None:
    assert hale.ask(host).status_code == 404


def test_the_host_of_a_deleted_deployment_is_404(hale: Hale) -> None:
    web = hale.up(web_spec("short-lived", replicas=1))
    hale.delete(web)
    hale.wait(lambda: hale.ask("short-lived.localhost").status_code == 404, what="its host is forgotten")


# --- nobody to answer -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"replicas": 0}, id="zero replicas"),
        pytest.param({"enabled": False}, id="disabled"),
        pytest.param({"options": ["--readiness", "503"]}, id="none is ready"),
    ],
)
def test_without_a_ready_replica_it_is_503_with_retry_after(
    hale: Hale, fields: Mapping[str, Json], request: pytest.FixtureRequest
) -> None:
    web = hale.apply(web_spec(f"503 {request.node.callspec.id}", **fields))
    hale.wait(lambda: hale.ask(hale.host(web)).status_code != 404, what="its host is known")
    answer = hale.ask(hale.host(web))
    hale.delete(web)
    assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)


def test_a_deployment_that_is_switched_off_answers_503_and_again_when_it_is_on(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    hale.apply(web_spec(hale.health(web)["name"], replicas=1, enabled=False))
    hale.wait(lambda: hale.replicas(web) == [], what="its replica is gone")
    assert hale.ask(hale.host(web)).status_code == 503
    up(replicas=1)
    assert hale.ask(hale.host(web)).status_code == 200


# --- a protected endpoint -------------------------------------------------------------------


def status(hale: Hale, deployment: str, password: str | None) -> int:
    auth = ("paperspace", password) if password is not None else None
    return hale.ask(hale.host(deployment), auth=auth).status_code


def test_a_protected_endpoint_wants_the_password_of_the_last_apply(hale: Hale, up: Up) -> None:
    web = up(replicas=1, basicAuthKey="sesame")
    pids = hale.pids(web)
    assert [status(hale, web, password) for password in (None, "wrong", "sesame")] == [401, 401, 200]
    assert hale.ask(hale.host(web)).headers["www-authenticate"].startswith("Basic ")
    assert hale.ask(hale.host(web), auth=("root", "sesame")).status_code == 401
    up(replicas=1, basicAuthKey="öffne: dich")
    hale.wait(lambda: status(hale, web, "öffne: dich") == 200, what="the new password opens")
    assert [status(hale, web, password) for password in (None, "sesame")] == [401, 401]
    up(replicas=1)
    hale.wait(lambda: status(hale, web, None) == 200, what="it is open")
    assert hale.pids(web) == pids


# --- what passes through --------------------------------------------------------------------


def test_a_websocket_passes_both_ways(hale: Hale, up: Up) -> None:
    web = up(replicas=1, command=[sys.executable, str(WEBSOCKET_REPLICA)], healthChecks={})
    name, _, port = hale.gateway.rpartition(":")
    through = socket.create_connection((name, int(port)))
    with connect(f"ws://{hale.host(web)}:{port}/", sock=through, proxy=None) as connection:
        for message in ("hello", "x" * MIB, "ö"):
            connection.send(message)
            assert connection.recv(timeout=60) == message


def test_server_sent_events_pass_one_by_one(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    (replica,) = hale.replicas(web)
    url = f"http://{hale.gateway}/events?count=3"
    seen = []
    with httpx.stream("GET", url, headers={"Host": hale.host(web)}, timeout=60, trust_env=False) as answer:
        for line in answer.iter_lines():
            # The next one is sent when this one is here: had it been held back, it would never come.
            if line:
                seen.append(line)
                hale.tell(replica, "/tell?release=1")
        assert answer.headers["content-type"] == "text/event-stream"
    assert seen == ["data: 0", "data: 1", "data: 2"]


def test_a_large_upload_arrives_whole(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    block = os.urandom(MIB)
    blocks = 64
    digest = hashlib.sha256(block * blocks).hexdigest()
    answer = hale.ask(
        hale.host(web),
        "/digest",
        "POST",
        content=(block for _ in range(blocks)),
        headers={"Content-Length": str(blocks * MIB)},
    )
    assert answer.json() == {"bytes": blocks * MIB, "sha256": digest}


def test_a_large_download_arrives_whole(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    answer = hale.ask(hale.host(web), f"/sized?bytes={64 * MIB + 1}")
    assert (
        hashlib.sha256(answer.content).digest()
        == hashlib.sha256(bytes(range(256)) * (64 * MIB // 256) + b"\0").digest()
    )


def echoed(hale: Hale, deployment: str, **headers: str) -> Json:
    answer = hale.ask(hale.host(deployment), "/echo", headers=headers)
    return answer.json()["headers"] | {"answered": answer.headers.get("x-request-id")}


def test_replicas_learn_who_asked_and_how(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    plain = echoed(hale, web)
    assert (plain["x-forwarded-for"], plain["x-forwarded-proto"]) == ("127.0.0.1", "http")
    behind = echoed(hale, web, **{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    assert (behind["x-forwarded-for"], behind["x-forwarded-proto"]) == ("203.0.113.9, 127.0.0.1", "http")
    assert plain["host"] == hale.host(web)


def test_every_request_has_an_id_and_a_given_one_is_kept(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    one, two = echoed(hale, web), echoed(hale, web)
    assert one["x-request-id"] == one["answered"] != two["x-request-id"]
    kept = echoed(hale, web, **{"X-Request-ID": "mine-7"})
    assert (kept["x-request-id"], kept["answered"]) == ("mine-7", "mine-7")


# --- leaving traffic ------------------------------------------------------------------------


def test_an_unready_replica_finishes_what_it_has_and_gets_nothing_new(hale: Hale, up: Up) -> None:
    web = up(replicas=2, checks=HASTY)
    both = hale.replicas(web)
    with hale.asking(hale.host(web)) as answer:
        busy = hale.wait_holding(both)
        hale.tell(busy, "/tell?readiness=503")
        (other,) = hale.wait_ready(web, 1)
        before = hale.who(busy)["requests"]
        assert {hale.ask(hale.host(web)).json()["pid"] for _ in range(20)} == {other["pid"]}
        assert hale.who(busy)["requests"] == before + 1  # the one that asked
        hale.tell(busy, "/tell?release=1")
        assert (answer.result(60).status_code, answer.result().json()["pid"]) == (200, busy["pid"])
    hale.tell(busy, "/tell?readiness=200")
    hale.wait_ready(web, 2)


def test_a_request_under_way_is_finished_before_an_update_ends_its_replica(hale: Hale, up: Up) -> None:
    web = up(replicas=1, version="1", hale={"drainSeconds": 60})
    (old,) = hale.replicas(web)
    with hale.asking(hale.host(web)) as answer:
        hale.wait_holding([old])
        hale.apply(web_spec(hale.health(web)["name"], replicas=1, version="2", hale={"drainSeconds": 60}))
        hale.wait(lambda: hale.ask(hale.host(web)).json()["version"] == "2", what="the new one answers")
        (leaving,) = [each for each in hale.replicas(web) if each["id"] == old["id"]]
        assert (leaving["phase"], leaving["next"]["action"]) == ("draining", "stop")
        hale.tell(old, "/tell?release=1")
        assert answer.result(60).json()["version"] == "1"
    hale.wait(lambda: old["pid"] not in hale.pids(web), what="the old one has left")


def test_a_request_that_takes_longer_than_the_drain_is_broken_off(hale: Hale, up: Up) -> None:
    web = up(replicas=1, version="1", hale={"drainSeconds": 0.2})
    (old,) = hale.replicas(web)
    with hale.asking(hale.host(web), method="POST") as answer:
        hale.wait_holding([old])
        up(replicas=1, version="2")
        assert answer.result(60).status_code in (502, 503)
    (told,) = [e for e in hale.events(web, "replica.stopping") if e["replicaId"] == old["id"]]
    assert told["message"] == "asked to end, though requests were still under way"


# --- asking again ---------------------------------------------------------------------------


def test_a_get_is_asked_again_when_its_replica_is_killed(hale: Hale, up: Up) -> None:
    web = up(replicas=2)
    both = hale.replicas(web)
    with hale.asking(hale.host(web), "/held", "GET") as answer:
        busy = hale.wait_holding(both)
        (other,) = [each for each in both if each["id"] != busy["id"]]
        os.kill(busy["pid"], signal.SIGKILL)
        hale.wait_holding([other])
        hale.tell(other, "/tell?release=1")
        assert (answer.result(60).status_code, answer.result().json()["pid"]) == (200, other["pid"])
    hale.wait_ready(web, 2)


def test_a_post_is_never_asked_twice(hale: Hale, up: Up) -> None:
    web = up(replicas=2)
    both = hale.replicas(web)
    with hale.asking(hale.host(web), "/held", "POST", content=b"pay 7") as answer:
        busy = hale.wait_holding(both)
        (other,) = [each for each in both if each["id"] != busy["id"]]
        before = hale.who(other)["requests"]
        os.kill(busy["pid"], signal.SIGKILL)
        assert answer.result(60).status_code == 502
    assert (hale.who(other)["requests"], hale.who(other)["holding"]) == (before + 1, 0)
    hale.wait_ready(web, 2)


def test_a_connection_that_cannot_be_made_is_tried_elsewhere_for_a_post_too(hale: Hale, up: Up) -> None:
    web = up(replicas=2, checks=PATIENT)
    deaf, other = hale.replicas(web)
    hale.tell(deaf, "/tell?deaf=1")
    answers = [hale.ask(hale.host(web), "/echo", "POST", content=b"x") for _ in range(20)]
    assert len(hale.replicas(web, ready=True)) == 2, "it was to be found in traffic"
    assert {(each.status_code, each.headers["x-replica"]) for each in answers} == {(200, str(other["pid"]))}


def test_requests_are_spread_over_all_ready_replicas(hale: Hale, up: Up) -> None:
    web = up(replicas=3)
    replicas = hale.replicas(web)
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(hale.ask, hale.host(web), "/held") for _ in range(3)]
        hale.wait_holding(replicas, 3)
        # The one with the fewest requests under way gets the next: nobody has two.
        assert [hale.who(each)["holding"] for each in replicas] == [1, 1, 1]
        for each in replicas:
            hale.tell(each, "/tell?release=1")
        assert {answer.result(60).json()["pid"] for answer in answers} == {each["pid"] for each in replicas}


def test_a_client_that_goes_away_costs_nobody_else_anything(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    (replica,) = hale.replicas(web)
    name, _, port = hale.gateway.rpartition(":")
    for _ in range(20):
        with socket.create_connection((name, int(port))) as client:
            client.sendall(f"GET /sized?bytes={MIB} HTTP/1.1\r\nHost: {hale.host(web)}\r\n\r\n".encode())
            client.recv(100)
    assert hale.ask(hale.host(web)).json()["pid"] == replica["pid"]
    assert hale.replicas(web)[0]["restarts"] == 0


def test_half_a_request_holds_nobody_up(hale: Hale, up: Up) -> None:
    web = up(replicas=1)
    name, _, port = hale.gateway.rpartition(":")
    slow = [socket.create_connection((name, int(port))) for _ in range(50)]
    for each in slow:
        each.sendall(f"GET / HTTP/1.1\r\nHost: {hale.host(web)}\r\n".encode())
    with hale.load(hale.host(web)) as load:
        load.flow(50)
    for each in slow:
        each.close()
    assert load.failures == []
