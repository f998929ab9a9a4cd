"""Names of images, and whose credentials are for whom."""

from dataclasses import replace

import pytest

from hale.core.image import (
    Credentials,
    ImageName,
    Registry,
    credentials_for,
    has_host,
    is_id,
    is_local,
    named,
    parse_name,
    server,
)

DIGEST = f"sha256:{'0a' * 32}"
REGISTRY = Registry("r1", "mine", "registry.example.com", "team", "robot", "hidden", 0.0, 0.0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param("web", ImageName("docker.io", "library/web", "latest"), id="a word"),
        pytest.param("web:2", ImageName("docker.io", "library/web", "2"), id="with a tag"),
        pytest.param("team/web:2", ImageName("docker.io", "team/web", "2"), id="a user's"),
        pytest.param("docker.io/web", ImageName("docker.io", "library/web"), id="at Docker Hub"),
        pytest.param("index.docker.io/team/web", ImageName("docker.io", "team/web"), id="its old name"),
        pytest.param("ghcr.io/team/web:2", ImageName("ghcr.io", "team/web", "2"), id="at a host"),
        pytest.param("host:5000/web", ImageName("host:5000", "web"), id="the colon is the port's"),
        pytest.param("host:5000/a/b/web:2", ImageName("host:5000", "a/b/web", "2"), id="port and tag"),
        pytest.param("localhost/web:2", ImageName("localhost", "web", "2"), id="built here"),
        pytest.param(f"host.io/web@{DIGEST}", ImageName("host.io", "web", digest=DIGEST), id="by digest"),
        pytest.param(f"host.io/web:2@{DIGEST}", ImageName("host.io", "web", "2", DIGEST), id="both"),
    ],
)
def test_a_name_is_completed_as_engines_do(written: str, meant: ImageName) -> None:
    assert parse_name(written) == meant


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("web", "docker.io/library/web:latest"),
        ("host:5000/web:2", "host:5000/web:2"),
        (f"host.io/web:2@{DIGEST}", f"host.io/web@{DIGEST}"),
    ],
)
def test_a_whole_name_says_everything(written: str, whole: str) -> None:
    assert str(parse_name(written)) == whole
    assert str(parse_name(whole)) == whole


def test_a_name_has_a_host_only_if_it_could_be_nothing_else() -> None:
    names = ["web", "team/web", "team/web:2", "web:2", "localhost/web", "host:5000/web", "host.io/web"]
    assert [name for name in names if has_host(name)] == ["localhost/web", "host:5000/web", "host.io/web"]
    assert [name for name in names if is_local(name)] == ["localhost/web"]
    assert (is_id(DIGEST), is_id("web"), is_id("sha256:0a")) == (True, False, False)


@pytest.mark.parametrize(
    ("url", "kind", "host"),
    [
        ("registry.example.com", None, "registry.example.com"),
        ("https://Registry.example.com/", "other", "registry.example.com"),
        ("https://registry.example.com:443/v2/", "other", "registry.example.com"),
        ("http://registry.example.com:5000/team", None, "registry.example.com:5000"),
        ("https://robot:hidden@registry.example.com/x", None, "registry.example.com"),
        ("https://index.docker.io/v1/", "dockerhub", "docker.io"),
        ("docker.io/team", "dockerhub", "docker.io"),
        ("", "dockerhub", "docker.io"),
        ("", "ghcr", "ghcr.io"),
        ("eu.gcr.io/project", "gcr", "eu.gcr.io"),
        ("", "gcr", "gcr.io"),
        ("", "digitalocean", "registry.digitalocean.com"),
        ("team.azurecr.io", "azure", "team.azurecr.io"),
        ("", "azure", ""),
    ],
)
def test_the_host_of_a_registry_is_told_by_its_url_else_by_its_kind(
    url: str, kind: str | None, host: str
) -> None:
    assert server(replace(REGISTRY, url=url, kind=kind)) == host


@pytest.mark.parametrize("image", ["registry.example.com/web", f"registry.example.com/a/web:2@{DIGEST}"])
def test_credentials_are_for_the_images_of_their_registry(image: str) -> None:
    assert credentials_for(REGISTRY, image) == Credentials("registry.example.com", "robot", "hidden")


@pytest.mark.parametrize(
    "image",
    [
        "web",
        "registry.example.com.evil.org/web",
        "registry.example.com:5000/web",
        "evil.org/registry.example.com/web",
        "localhost/web",
    ],
)
def test_no_other_registry_is_told_the_credentials(image: str) -> None:
    assert credentials_for(REGISTRY, image) is None


def test_credentials_of_docker_hub_are_for_names_without_a_host() -> None:
    hub = replace(REGISTRY, url="https://index.docker.io/v1/", kind="dockerhub")
    told = credentials_for(hub, "team/web:2")
    assert told is not None
    assert told.server == "docker.io"


def test_a_registry_without_a_host_is_told_nothing() -> None:
    assert credentials_for(replace(REGISTRY, url="", kind="azure"), "web") is None


def test_a_registry_is_meant_by_its_name_else_by_its_id() -> None:
    other = replace(REGISTRY, id="other", name=REGISTRY.id)
    assert named([REGISTRY, other], REGISTRY.name) == REGISTRY
    assert named([REGISTRY, other], REGISTRY.id) == other
    assert named([REGISTRY, other], "other") == other
    assert named([REGISTRY], "nobody") is None
