"""The example's application, run by uvicorn as its spec says, beside a real S3 server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from kit.until import until
from ruamel.yaml import YAML
from s3_server import S3Server

pytestmark = pytest.mark.real_time

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"
SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
VERSICOLOR = {"sepal_length": 5.9, "sepal_width": 2.8, "petal_length": 4.3, "petal_width": 1.3}
VIRGINICA = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
LIVENESS_TIMEOUT = 1.0
READINESS_TIMEOUT = 5.0


class App:
    """One replica, started as the process engine would: a clean environment, its port in the command."""

    def __init__(self, s3_url: str, log: Path, **env: str) -> None:
        self._log = log
        settings = {"AWS_ENDPOINT_URL": s3_url, "S3_BUCKET": "iris", "HOME": str(log.parent)}
        settings |= {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo-secret"}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "0"],
                cwd=EXAMPLE,
                env={"PATH": os.defpath, "PYTHONUNBUFFERED": "1"} | settings | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def log(self) -> str:
        return self._log.read_text()

    def listening(self) -> str | None:
        found = re.search(r"running on (http://127.0.0.1:\d+)", self.log())
        return found and found[1]

    def client(self) -> httpx.Client:
        url = until(self.listening, what="the application listens")
        return httpx.Client(base_url=url, timeout=30, follow_redirects=True)

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3")
    server.put("iris", "iris.json", (EXAMPLE / "iris.json").read_bytes())
    with server:
        yield server


@pytest.fixture
def app(s3: S3Server, tmp_path: Path) -> Iterator[App]:
    app = App(s3.url, tmp_path / "app.log")
    yield app
    app.stop()


@pytest.fixture
def client(app: App) -> Iterator[httpx.Client]:
    with app.client() as client:
        yield client


def test_the_spec_has_the_health_checks_of_the_page() -> None:
    spec = YAML(typ="safe").load((EXAMPLE / "hale.yaml").read_text())
    assert spec["healthChecks"] == {
        "readiness": {"path": "/readiness", "port": 8000, "periodSeconds": 10, "timeoutSeconds": 5},
        "liveness": {"path": "/liveness", "port": 8000},
        "startup": {"path": "/startup", "port": 8000, "periodSeconds": 10, "failureThreshold": 6},
    }


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/startup", "Startup check succeeded."),
        ("/readiness", "Readiness check succeeded."),
        ("/liveness", "Liveness check succeeded."),
    ],
)
def test_a_check_is_redirected_to_its_slash_on_the_same_host_and_succeeds(
    client: httpx.Client, path: str, text: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, text)
    assert [(it.status_code, it.headers["location"]) for it in answer.history] == [
        (307, f"{str(client.base_url).rstrip('/')}{path}/")
    ]


def test_readiness_fails_while_s3_is_away_and_comes_back_with_it(s3: S3Server, client: httpx.Client) -> None:
    s3.stop()
    answer = client.get("/readiness/")
    assert (answer.status_code, answer.json()) == (503, "Readiness check failed.")
    assert client.get("/liveness/").status_code == 200
    s3.start()
    assert client.get("/readiness/").status_code == 200


def test_readiness_fails_when_the_bucket_is_gone(s3: S3Server, client: httpx.Client) -> None:
    (s3.folder / "iris").rename(s3.folder / "elsewhere")
    until(lambda: client.get("/readiness/").status_code == 503, what="S3 has seen that the bucket is gone")


def test_a_hanging_s3_holds_up_neither_liveness_nor_readiness(s3: S3Server, client: httpx.Client) -> None:
    s3.pause()
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(client.get, "/readiness/") for _ in range(10)]
        waiting += [pool.submit(client.post, "/predict/", json=SETOSA) for _ in range(10)]
        alive = [client.get("/liveness/") for _ in range(20)]
        answers = [it.result() for it in waiting]
    assert {it.status_code for it in alive} == {200}
    assert max(it.elapsed.total_seconds() for it in alive) < LIVENESS_TIMEOUT
    assert {it.status_code for it in answers} == {503}
    assert max(it.elapsed.total_seconds() for it in answers) < READINESS_TIMEOUT
    s3.resume()
    until(lambda: client.get("/readiness/").status_code == 200, what="ready again")


def test_questions_to_a_hanging_s3_pile_up_no_threads(s3: S3Server, app: App, client: httpx.Client) -> None:
    before = app.threads()
    s3.pause()
    with ThreadPoolExecutor(30) as pool:
        for answer in pool.map(client.get, ["/readiness/"] * 30):
            assert answer.status_code == 503
    assert app.threads() <= before + 1


@pytest.mark.parametrize(
    ("flower", "species"), [(SETOSA, "setosa"), (VERSICOLOR, "versicolor"), (VIRGINICA, "virginica")]
)
def test_a_prediction_comes_from_the_model_and_is_kept_in_the_bucket(
    s3: S3Server, client: httpx.Client, flower: dict[str, float], species: str
) -> None:
    answer = client.post("/predict/", json=flower).raise_for_status().json()
    assert answer["species"] == species
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=0.001)
    assert s3.keys("iris") == ["iris.json", answer["key"]]
    assert json.loads((s3.folder / "iris" / answer["key"]).read_text()) == answer


def test_a_prediction_uses_the_model_that_was_in_the_bucket_at_startup(s3: S3Server, tmp_path: Path) -> None:
    model = json.loads((EXAMPLE / "iris.json").read_text())
    model["classes"] = {"rose": model["classes"]["setosa"]}
    s3.put("iris", "iris.json", json.dumps(model).encode())
    app = App(s3.url, tmp_path / "app.log")
    try:
        with app.client() as client:
            assert client.post("/predict/", json=VIRGINICA).json()["species"] == "rose"
    finally:
        app.stop()


def test_a_prediction_that_s3_does_not_take_is_refused(s3: S3Server, client: httpx.Client) -> None:
    s3.stop()
    answer = client.post("/predict/", json=SETOSA)
    assert (answer.status_code, answer.json()["detail"]) == (503, "S3 does not take the result")


@pytest.mark.parametrize("wrong", [{}, SETOSA | {"petal_width": -1}, SETOSA | {"petal_width": "wide"}])
def test_nonsense_is_refused_and_leaves_nothing_in_the_bucket(
    s3: S3Server, client: httpx.Client, wrong: dict[str, object]
) -> None:
    assert client.post("/predict/", json=wrong).status_code == 422
    assert s3.keys("iris") == ["iris.json"]


def test_it_listens_only_once_the_model_is_there(s3: S3Server, tmp_path: Path) -> None:
    s3.stop()
    app = App(s3.url, tmp_path / "app.log", RETRY_AFTER="0.1")
    try:
        until(lambda: app.log().count("no model yet") > 1, what="it keeps trying")
        assert app.listening() is None
        s3.start()
        with app.client() as client:
            assert client.get("/startup").status_code == 200
    finally:
        app.stop()


def test_it_ends_at_once_when_told_to_while_it_waits_for_the_model(s3: S3Server, tmp_path: Path) -> None:
    s3.pause()
    app = App(s3.url, tmp_path / "app.log", S3_TIMEOUT="4.9")
    try:
        until(lambda: "fetching iris.json" in app.log(), what="it fetches the model")
        app.process.terminate()
        assert app.process.wait(timeout=30) == -signal.SIGTERM
    finally:
        app.stop()


def test_a_setting_that_would_outlast_the_check_ends_it_and_is_named(tmp_path: Path) -> None:
    app = App("http://127.0.0.1:9", tmp_path / "app.log", S3_TIMEOUT="60")
    try:
        assert app.process.wait(timeout=30) == 3
        assert "s3_timeout" in app.log()
    finally:
        app.stop()
