"""Secrets and integrations in containers: what is in them, who may write, what stays and what goes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit import parts
from kit.containers import container_spec, env, places, run_in, typed
from kit.daemon import Hale, Json
from kit.namespaces import HOST as REACHABLE
from kit.podman import Podman
from s3_server import S3Server

from tests.local.volumes.git_server import Repository

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

HOST = "web.localhost"
NewHale = Callable[..., Hale]


@pytest.fixture
def hale(podman: Podman, new_hale: NewHale) -> Hale:
    return new_hale(env={"DOCKER_HOST": podman.url}).start()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3", address=REACHABLE) as server:
        server.put("data", "2023/year.txt", b"2023")
        server.put("data", "2024/year.txt", b"2024")
        yield server


def volumes(hale: Hale, deployment: str) -> list[str]:
    """Names of the folders of the deployment's volumes."""
    folder = hale.data / "volumes" / deployment
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_secrets_reach_the_container_and_a_changed_one_does_with_the_next_apply(
    hale: Hale, podman: Podman
) -> None:
    typed(hale, "first-word", "secret", "set", "WORD")
    typed(hale, "door-1", "secret", "set", "DOOR")
    spec = container_spec(replicas=1, env=env(VERSION="secret:WORD"), basicAuthKey="secret:DOOR")
    web = hale.up(spec)

    def answer(password: str) -> tuple[int, str]:
        said = hale.ask(HOST, auth=("paperspace", password))
        return said.status_code, said.text.strip() if said.status_code == 200 else ""

    assert (hale.ask(HOST).status_code, answer("door-1")) == (401, (200, "first-word"))
    typed(hale, "second-word", "secret", "set", "WORD")
    typed(hale, "door-2", "secret", "set", "DOOR")
    podman.run("kill", *podman.containers())
    hale.wait(lambda: hale.replicas(web)[0]["restarts"] == 1, what="it was started again")
    hale.wait_healthy(web)
    assert (answer("door-1"), answer("door-2")) == ((200, "first-word"), (401, ""))
    hale.up(spec)
    hale.wait(lambda: answer("door-2") == (200, "second-word"), what="the new ones are in force")
    assert answer("door-1") == (401, "")
    shown = "".join(hale.cli(what, "web", "--json").stdout for what in ("get", "events", "history"))
    told = shown + hale.log_text()
    assert [word for word in ("first-word", "second-word", "door-1", "door-2") if word in told] == []


def test_integrations_are_there_read_only_and_go_when_they_are_another(
    hale: Hale, podman: Podman, s3: S3Server, tmp_path: Path
) -> None:
    parts.need("git", "git-lfs")
    repository = Repository(tmp_path / "falcon.git")
    repository.commit({"model.bin": b"weights"})
    typed(hale, "demo-secret", "secret", "set", "S3_KEY")

    def spec(year: str, **fields: object) -> dict[str, Json]:
        bucket = {"endpoint": s3.url, "region": "us-east-1"}
        keys = {"accessKeyId": "demo", "secretAccessKey": "secret:S3_KEY"}
        integrations = [
            {
                "type": "s3",
                "name": "training-data",
                "url": f"s3://data/{year}",
                "path": "/in",
                **bucket,
                **keys,
            },
            {"type": "git-lfs", "name": "falcon", "url": repository.url, "path": "/models/falcon"},
            {"type": "volume", "name": "cache"},
        ]
        return container_spec(integrations=integrations, **fields)  # type: ignore[arg-type]

    web = hale.up(spec("2023"))
    one, other = hale.replicas(web)
    assert (
        run_in(podman, one, "cat", "/in/training-data/year.txt", "/models/falcon/model.bin") == "2023weights"
    )
    named = run_in(podman, one, "sh", "-c", "env | grep HALE_INTEGRATION").split()
    assert sorted(named) == [
        "HALE_INTEGRATION_CACHE=/opt/integrations/cache",
        "HALE_INTEGRATION_FALCON=/models/falcon",
        "HALE_INTEGRATION_TRAINING_DATA=/in/training-data",
    ]
    for path in ("/in/training-data/year.txt", "/models/falcon/new"):
        assert "Read-only file system" in run_in(podman, one, "sh", "-c", f"echo x >{path}", check=False)
    run_in(podman, one, "sh", "-c", "echo kept >/opt/integrations/cache/note")
    assert run_in(podman, other, "cat", "/opt/integrations/cache/note") == "kept"
    before = volumes(hale, web)

    # Another revision of the same: nothing is filled again. Another year: one folder anew, the old one goes.
    hale.up(spec("2023", image="localhost/web:2"))
    assert (volumes(hale, web), len(hale.events(web, "volume.filled"))) == (before, 2)
    with hale.load(HOST) as load:
        load.flow()
        hale.up(spec("2024", image="localhost/web:2"))
        load.flow()
    hale.wait(lambda: len(volumes(hale, web)) == len(before), what=lambda: f"one went: {volumes(hale, web)}")
    assert (load.failures[:3], len(set(volumes(hale, web)) - set(before))) == ([], 1)
    one, other = hale.replicas(web)
    shown = run_in(podman, one, "cat", "/in/training-data/year.txt", "/opt/integrations/cache/note")
    assert shown == "2024kept"
    assert "demo-secret" not in hale.log_text() + str(hale.events(web))

    hale.delete(web)
    hale.wait(lambda: (volumes(hale, web), podman.containers()) == ([], []), what="all of it goes")


def test_a_source_that_is_away_keeps_what_ran_until_it_is_back(hale: Hale, s3: S3Server) -> None:
    typed(hale, "demo-secret", "secret", "set", "S3_KEY")
    source = {"type": "s3", "name": "data", "url": "s3://data/2023", "endpoint": s3.url}
    keys = {"accessKeyId": "demo", "secretAccessKey": "secret:S3_KEY"}
    web = hale.up(container_spec(replicas=1))
    before = places(hale.replicas(web))
    s3.stop()
    hale.apply(container_spec(replicas=1, integrations=[source | keys]))
    hale.wait(lambda: hale.events(web, "volume.unreachable"), what="it is told")
    assert (places(hale.replicas(web)), hale.ask(HOST).status_code) == (before, 200)
    s3.start()
    hale.wait_healthy(web)
    assert len(hale.events(web, "volume.filled")) == 1
