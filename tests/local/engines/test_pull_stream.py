"""How far a pull is, by what engines tell."""

from typing import Any

import pytest

from hale.core.image import Progress
from hale.local.engines.pull_stream import PullStream

PODMAN = True
DOCKER = False


def record(status: str, layer: str = "", current: int = 0, total: int = 0) -> dict[str, Any]:
    detail = {"current": current, "total": total} if total else {}
    return {"status": status, "progressDetail": detail} | ({"id": layer} if layer else {})


def after(podman: bool, *records: dict[str, Any]) -> Progress:
    stream = PullStream(podman=podman)
    for each in records:
        stream.take(each)
    return stream.progress


DOCKERS = [
    record("Pulling from library/web", "2"),
    record("Pulling fs layer", "a"),
    record("Already exists", "b"),
    record("Waiting", "a"),
    record("Downloading", "a", 40, 100),
    record("Verifying Checksum", "a"),
    record("Download complete", "a"),
    record("Extracting", "a", 70, 100),
    record("Pull complete", "a"),
    record("Digest: sha256:" + "0a" * 32),
    record("Status: Downloaded newer image for web:2"),
]


@pytest.mark.parametrize(
    ("seen", "progress"),
    [
        pytest.param(1, Progress(), id="a tag is no layer"),
        pytest.param(2, Progress(0, 1), id="a layer"),
        pytest.param(3, Progress(1, 2), id="one that is here"),
        pytest.param(5, Progress(1, 2, 40, 100), id="bytes of another"),
        pytest.param(7, Progress(1, 2, 100, 100), id="downloaded is not yet unpacked"),
        pytest.param(8, Progress(1, 2, 100, 100), id="unpacking is no download"),
        pytest.param(11, Progress(2, 2, 100, 100), id="done"),
    ],
)
def test_docker_tells_of_layers_until_they_are_unpacked(seen: int, progress: Progress) -> None:
    assert after(DOCKER, *DOCKERS[:seen]) == progress


def test_docker_tells_the_digest() -> None:
    stream = PullStream(podman=DOCKER)
    for each in DOCKERS:
        stream.take(each)
    assert stream.digest == "sha256:" + "0a" * 32


def test_docker_may_count_the_seconds_of_unpacking() -> None:
    seconds = {"status": "Extracting", "id": "a", "progressDetail": {"current": 3, "units": "s"}}
    assert after(DOCKER, record("Downloading", "a", 100, 100), seconds) == Progress(0, 1, 100, 100)


def test_podman_is_done_with_a_layer_once_it_is_downloaded() -> None:
    told = [
        record("Pulling fs layer", "a"),
        record("Downloading", "a", 10, 30),
        record("Already exists", "b"),
    ]
    assert after(PODMAN, *told) == Progress(1, 2, 10, 30)
    assert after(PODMAN, *told, record("Download complete", "a")) == Progress(2, 2, 30, 30)


def test_what_is_not_known_is_passed_over() -> None:
    odd: list[dict[str, Any]] = [{}, {"status": None, "id": "a"}, {"status": "Downloading"}, {"id": "a"}]
    assert after(PODMAN, *odd) == Progress()
