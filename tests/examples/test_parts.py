"""The real parts that the other tests stand on do what those rely on."""

import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from kit import images
from kit.namespaces import in_own_network
from kit.podman import Podman
from kit.processes import processes_of, running
from kit.registry import Registry
from kit.until import until

pytestmark = pytest.mark.real_time


def test_nothing_leads_out_of_the_network_of_tests(podman: Podman) -> None:
    assert in_own_network()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
        pytest.raises(OSError, match="unreachable"),
    ):
        probe.connect(("198.51.100.1", 9))


def test_a_container_is_reached_at_its_own_address_and_outlives_the_service(podman: Podman) -> None:
    podman.run("run", "--detach", "--name", "web", "localhost/web:2")
    assert answer(podman, "web") == "2"
    podman.stop()
    podman.start()
    assert (podman.containers(), answer(podman, "web")) == (["web"], "2")


def test_the_single_binary_has_no_shell(podman: Podman) -> None:
    podman.run("run", "--detach", "--name", "single", "localhost/single:1")
    assert answer(podman, "single", "/liveness") == "ok"
    with pytest.raises(AssertionError, match="not found"):
        podman.run("exec", "single", "sh", "-c", "true")


def test_nothing_is_left_of_a_podman_that_has_ended(tmp_path: Path, shared_podman: Podman) -> None:
    with Podman(tmp_path / "podman") as podman:
        podman.load(images.busybox().archive(tmp_path / "image.tar", "localhost/busybox:1"))
        podman.run("run", "--detach", "--name", "busy", "localhost/busybox:1")
        assert (
            len(found := [pid for pid, command in processes_of(tmp_path).items() if "conmon" in command]) == 1
        )
    assert (processes_of(tmp_path), [pid for pid in found if running(pid)]) == ({}, [])
    assert list(tmp_path.iterdir()) == [tmp_path / "image.tar"]


def answer(podman: Podman, container: str, path: str = "/") -> str:
    address = podman.inspect(container)["NetworkSettings"]["IPAddress"]

    def get() -> str | None:
        try:
            return urllib.request.urlopen(f"http://{address}:8000{path}", timeout=10).read().decode().strip()
        except urllib.error.URLError:
            return None

    return until(get, what=f"{container} answers")


def test_what_is_pushed_to_the_registry_is_pulled_with_its_password(
    podman: Podman, registry: Registry
) -> None:
    image = images.web("3")
    digest = registry.push(image, "team/web:3")
    with pytest.raises(AssertionError, match="authentication required"):
        podman.run("pull", registry.name("team/web:3"))
    login = f"--creds={registry.username}:{registry.password}"
    assert podman.run("pull", "--quiet", login, registry.name("team/web:3")) == image.id[7:]
    podman.run("pull", "--quiet", login, registry.name(f"team/web@{digest}"))
    registry.delete("team/web:3")
    with pytest.raises(AssertionError, match="manifest unknown"):
        podman.run("pull", login, registry.name("team/web:3"))
    assert registry.requests("GET /v2/team/web/manifests/3 200")


def test_a_name_may_stand_for_several_architectures(podman: Podman, registry: Registry) -> None:
    other = replace(images.web("4"), architecture="s390x")
    registry.push_all([other, images.web("5")], "web:all")
    login = f"--creds={registry.username}:{registry.password}"
    pulled = podman.run("pull", "--quiet", login, registry.name("web:all"))
    assert pulled == images.web("5").id[7:]
