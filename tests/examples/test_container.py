"""The application of examples/container in its image, beside a real S3 server."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from kit.namespaces import HOST
from kit.podman import Podman
from kit.until import until
from s3_server import S3Server

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3", address=HOST) as server:
        server.put("iris", "iris.json", (EXAMPLES / "fastapi/iris.json").read_bytes())
        yield server


class App:
    """The image, running."""

    def __init__(self, podman: Podman, image: str, s3: S3Server) -> None:
        keys = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo-secret"}
        env = {"S3_ENDPOINT": s3.url, "S3_BUCKET": "iris"} | keys
        options = [f"--env={name}={value}" for name, value in env.items()]
        podman.run("run", "--detach", "--name", "iris", *options, image)
        address = podman.inspect("iris")["NetworkSettings"]["IPAddress"]
        self._url = f"http://{address}:8000"

    def status(self, path: str) -> int | None:
        """The status after redirects; None while nobody answers."""
        try:
            return self._request("GET", path).status_code
        except httpx.TransportError:
            return None

    def becomes(self, path: str, status: int | None) -> None:
        until(lambda: self.status(path) == status, what=f"{path} answers {status}")

    def post(self, path: str, body: object) -> httpx.Response:
        return self._request("POST", path, json=body)

    def put(self, path: str) -> int:
        return self._request("PUT", path).status_code

    def _request(self, method: str, path: str, **more: object) -> httpx.Response:
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False, follow_redirects=True) as client:
            return client.request(method, path, **more)  # type: ignore[arg-type]


@pytest.fixture
def app(podman: Podman, app_images: tuple[str, str], s3: S3Server) -> App:
    app = App(podman, app_images[1], s3)
    app.becomes("/startup", 200)
    return app


def test_the_checks_of_the_page_pass_and_readiness_follows_s3(app: App, s3: S3Server) -> None:
    assert [app.status(f"/{each}") for each in ("startup", "readiness", "liveness")] == [200, 200, 200]
    s3.stop()
    assert [app.status(f"/{each}") for each in ("startup", "readiness", "liveness")] == [200, 503, 200]
    s3.start()
    assert app.status("/readiness") == 200


def test_it_does_not_start_before_it_has_its_model(
    podman: Podman, app_images: tuple[str, str], s3: S3Server
) -> None:
    s3.stop()
    app = App(podman, app_images[0], s3)
    until(lambda: "no model yet" in podman.run("logs", "iris", stderr=True), what="it asks for the model")
    assert app.status("/startup") is None
    s3.start()
    app.becomes("/startup", 200)


def test_a_prediction_is_kept_in_the_bucket(app: App, s3: S3Server) -> None:
    answer = app.post("/predict/", FLOWER).json()
    assert (answer["species"], answer["version"]) == ("setosa", "2")
    assert json.loads((s3.folder / "iris" / answer["key"]).read_text()) == answer


def test_liveness_can_be_broken_and_healed(app: App) -> None:
    assert (app.put("/liveness/?alive=false"), app.status("/liveness")) == (204, 503)
    assert (app.put("/liveness/?alive=true"), app.status("/liveness")) == (204, 200)


def test_it_ends_at_once_when_it_is_told_to_while_it_waits_for_its_model(
    podman: Podman, app_images: tuple[str, str], s3: S3Server
) -> None:
    s3.stop()
    App(podman, app_images[0], s3)
    until(lambda: "no model yet" in podman.run("logs", "iris", stderr=True), what="it asks for the model")
    podman.run("stop", "--time", "60", "iris", within=30)
    assert podman.inspect("iris")["State"]["ExitCode"] == 0
