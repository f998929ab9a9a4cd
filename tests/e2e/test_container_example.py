"""The documented application as containers: pulled with a password, checked, healed, updated, none lost."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from kit.daemon import Hale, Json
from kit.namespaces import HOST as REACHABLE
from kit.podman import Podman
from kit.registry import Registry
from s3_server import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples"
HOST = "iris.localhost"
SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
READINESS_BUDGET = 3 * 10 + 5
"""Seconds: failureThreshold * periodSeconds, and the timeout of the last check."""


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3", address=REACHABLE) as server:
        server.put("iris", "iris.json", (EXAMPLES / "fastapi/iris.json").read_bytes())
        yield server


@pytest.fixture
def images(podman: Podman, app_images: tuple[str, str], registry: Registry) -> tuple[str, str]:
    """Names of both versions in the private registry, which are nowhere else under these names."""
    names = (registry.name("team/iris:1"), registry.name("team/iris:2"))
    for local, name in zip(app_images, names, strict=True):
        podman.run("push", "--creds", f"{registry.username}:{registry.password}", local, name)
    return names


@pytest.fixture
def hale(podman: Podman, new_hale: Callable[..., Hale], registry: Registry) -> Hale:
    """A hale that knows the registry and the key of S3."""
    hale = new_hale(env={"DOCKER_HOST": podman.url}).start()
    typed(hale, registry.password, "registry", "add", "ours", "--url", registry.url, "--username", "robot")
    typed(hale, "demo-secret", "secret", "set", "S3_KEY")
    return hale


def typed(hale: Hale, text: str, *words: str) -> None:
    """Run `hale <words>` with this on its standard input."""
    group, *rest = words
    command = [*hale.command(group)[:3], *words, "--data", str(hale.data)]
    done = subprocess.run(command, env=hale.env, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{group} {rest}: {done.stdout}{done.stderr}"


def spec(image: str, s3: S3Server) -> str:
    """The example's own file, with this image from the registry and this S3."""
    text = (EXAMPLES / "container/hale.yaml").read_text()
    told = text.replace("localhost/iris:1", image).replace("http://s3.example.com:9000", s3.url)
    return told.replace("# containerRegistry: my-registry", "containerRegistry: ours")


def apply(hale: Hale, text: str) -> str:
    """As users do it; the deployment's id once all is healthy."""
    path = hale.data.with_name("hale.yaml")
    path.write_text(text)
    applied = hale.cli("apply", str(path), "--wait")
    assert applied.returncode == 0, f"{applied.stdout}{applied.stderr}{hale.log_text()}"
    return str(hale.get("deployments")["items"][0]["id"])


def test_the_page_comes_true_with_containers(
    hale: Hale, images: tuple[str, str], s3: S3Server, registry: Registry, podman: Podman
) -> None:
    deployment = apply(hale, spec(images[0], s3))
    first = hale.wait_ready(deployment, 2)

    # Both predict, and keep what they said.
    answer = hale.ask(HOST, "/predict/", "POST", json=SETOSA)
    assert (answer.status_code, answer.json()["species"]) == (200, "setosa")
    assert answer.json()["key"] in s3.keys("iris")

    # Without S3 both leave traffic; with it they come back, and none was restarted.
    s3.stop()
    hale.wait_ready(deployment, 0, within=READINESS_BUDGET + 15)
    refused = hale.ask(HOST, "/predict/", "POST", json=SETOSA)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    s3.start()
    again = hale.wait_ready(deployment, 2, within=30)
    assert places(again) == places(first)

    # The digest that ran is written down, and a password nowhere.
    (revision,) = hale.get(f"deployments/{deployment}/revisions")["items"]
    assert "@sha256:" in revision["imageDigest"]
    assert registry.password not in json.dumps(hale.events(deployment)) + hale.log_text()


def places(replicas: list[Json]) -> list[tuple[str, str, int]]:
    return sorted((each["id"], each["address"], each["restarts"]) for each in replicas)


def test_a_replica_that_fails_liveness_is_healed_and_no_request_is_lost(
    hale: Hale, images: tuple[str, str], s3: S3Server
) -> None:
    deployment = apply(hale, spec(images[0], s3))
    sick, _ = hale.wait_ready(deployment, 2)
    with hale.load(HOST, "/startup/", pause=0.01) as load:
        load.flow()
        broken = httpx.put(f"http://{sick['address']}/liveness/?alive=false", trust_env=False)
        assert broken.status_code == 204

        def healed() -> bool:
            found = {each["id"]: each for each in hale.replicas(deployment, ready=True)}
            return len(found) == 2 and found[sick["id"]]["restarts"] == 1

        hale.wait(healed, within=120, what="the sick one was restarted and both are ready")
        load.flow()
    assert (load.failures, load.count > 200) == ([], True)
    (restart,) = [e for e in hale.events(deployment, "replica.exited") if e["replicaId"] == sick["id"]]
    assert [link["kind"] for link in restart["cause"]] == ["check", "stop", "exit", "back-off"]


def test_a_rolling_update_to_a_second_tag_loses_no_request(
    hale: Hale, images: tuple[str, str], s3: S3Server
) -> None:
    deployment = apply(hale, spec(images[0], s3))
    with hale.load(HOST, "/startup/", pause=0.01) as load:
        load.flow()
        apply(hale, spec(images[1], s3))
        hale.wait_healthy(deployment)
        load.flow()
    assert load.failures == []
    assert hale.ask(HOST, "/predict/", "POST", json=SETOSA).json()["version"] == "2"
    digests = [each["imageDigest"] for each in hale.get(f"deployments/{deployment}/revisions")["items"]]
    assert len(set(digests)) == 2
