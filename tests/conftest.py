"""Two loops: virtual time, unless a test is marked `real_time` or `e2e`: it talks to something real.

And a network of our own for each process that runs tests, where that can be (kit.namespaces).
"""

import asyncio
import selectors
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from kit import images, parts
from kit.docker import Docker
from kit.namespaces import enter_own_network
from kit.podman import Podman
from kit.registry import Registry


def pytest_configure() -> None:
    enter_own_network()


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout is None:
            return ready or super().select(timeout)
        self.skipped += max(0.0, timeout)
        return ready


class AutojumpLoop(asyncio.SelectorEventLoop):
    """A loop that skips waiting: an hour of sleeping passes at once."""

    def __init__(self) -> None:
        self._jump = _Selector()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.skipped


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("real_time") or item.get_closest_marker("e2e"):
        return {"uvloop": uvloop.new_event_loop}
    return {"virtual": AutojumpLoop}


@pytest.fixture(scope="session")
def shared_podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """One Podman for all tests of this process, with the images of `images.everyday()`; see `podman`."""
    parts.need(*parts.PODMAN)
    folder = tmp_path_factory.mktemp("podman") / "podman"
    with Podman(folder, images=parts.base_store()) as podman:
        for name, image in images.everyday().items():
            podman.load(image.archive(podman.folder / "image.tar", name))
        yield podman


@pytest.fixture
def podman(shared_podman: Podman) -> Iterator[Podman]:
    """A Podman that runs and has no containers: those of the test are removed afterwards."""
    shared_podman.start()
    yield shared_podman
    shared_podman.clear()


@pytest.fixture(scope="session")
def shared_docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """One Docker for all tests of this process, with the images of `images.everyday()`; see `docker`."""
    parts.need(*parts.DOCKER)
    with Docker(tmp_path_factory.mktemp("docker") / "docker") as docker:
        for name, image in images.everyday().items():
            docker.load(image.archive(docker.folder / "image.tar", name))
        yield docker


@pytest.fixture
def docker(shared_docker: Docker) -> Iterator[Docker]:
    """A Docker that runs and has no containers: those of the test are removed afterwards."""
    shared_docker.start()
    yield shared_docker
    shared_docker.clear()


@pytest.fixture(scope="session")
def app_images(shared_podman: Podman) -> tuple[str, str]:
    """The application of examples/container, built twice: versions 1 and 2, by name."""
    parts.need_base()
    return parts.app_image(shared_podman, "1"), parts.app_image(shared_podman, "2")


@pytest.fixture
def registry(tmp_path: Path, podman: Podman) -> Iterator[Registry]:
    """An empty registry with a password, which `podman` trusts."""
    parts.need("docker-registry")
    with Registry(tmp_path / "registry") as registry:
        podman.trust(registry.host)
        yield registry


@pytest.fixture
def tls_registry(tmp_path: Path) -> Iterator[Registry]:
    """One that speaks TLS with a certificate that nobody trusts."""
    parts.need("docker-registry")
    with Registry(tmp_path / "tls-registry", tls=True) as registry:
        yield registry
