"""Images on a real Docker, from a real registry: what counts most is as on Podman, and some is Docker's own.

The tests that are only named here are those of test_images, with a Docker in Podman's place.
"""

# ruff: noqa: F811  (fixtures are imported and then asked for by name)

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import images
from kit.docker import Docker
from kit.namespaces import HOST
from kit.registry import Registry

from hale.errors import PreparationError
from hale.local.engines.images import Images
from tests.local.engines.test_images import (  # noqa: F401
    connected,
    failure,
    here,
    ignored,
    keys,
    small_disk,
    test_a_log_in_leaves_nothing_with_the_engine,
    test_a_log_in_with_tls,
    test_a_name_for_several_architectures_stands_for_the_one_of_this_machine,
    test_a_pull_returns_a_reference_that_stays_though_the_tag_moves,
    test_a_reference_can_be_pulled_again_once_the_image_is_gone,
    test_a_registry_that_denies_access,
    test_a_registry_that_is_down,
    test_a_registry_whose_certificate_nobody_trusts,
    test_a_registry_whose_name_leads_nowhere,
    test_a_tag_that_the_image_does_not_have,
    test_a_wrong_password_does_not,
    test_an_engine_that_goes_away_while_it_pulls,
    test_an_image_for_another_architecture,
    test_an_image_for_other_architectures_alone,
    test_an_image_that_was_built_and_pushed_here_has_the_digest_of_the_registry,
    test_an_unchanged_tag_has_the_same_reference,
    test_no_registry_is_told_the_credentials_of_another,
    test_nobody_logs_in_where_nobody_answers,
    test_nobody_logs_in_where_the_certificate_is_not_trusted,
    test_one_who_gives_up_does_not_break_the_pull_of_the_other,
    test_progress_counts_layers_and_ends_with_all,
    test_progress_tells_bytes_of_a_layer_that_takes_long,
    test_the_right_password_logs_in,
    test_the_same_image_from_two_registries_has_the_digest_of_each,
    test_what_is_not_here_is_not_found,
    test_what_was_made_here_is_found_by_its_id,
    unique,
)

pytestmark = pytest.mark.real_time


@pytest.fixture
def podman(docker: Docker) -> Docker:
    """For the tests of Podman's."""
    return docker


@pytest.fixture
def tls_registry(tmp_path: Path) -> Iterator[Registry]:
    """Not on loopback: to Docker all of that is to be trusted."""
    with Registry(tmp_path / "tls-registry", tls=True, address=HOST) as registry:
        yield registry


async def test_a_registry_without_tls_that_is_not_trusted(here: Images, tmp_path: Path) -> None:
    with Registry(tmp_path / "plain", address=HOST) as plain:
        error = await failure(here, plain.name("web:1"), keys(plain))
        with pytest.raises(PreparationError) as caught:
            await here.log_in(keys(plain))
    assert (error.event, error.fatal) == ("image.untrusted", True)
    assert "insecure-registries" in error.hint
    assert (caught.value.event, caught.value.fatal) == ("image.untrusted", True)


async def test_an_image_that_the_registry_does_not_have_is_told_by_its_tag(
    here: Images, registry: Registry
) -> None:
    # Docker says the same of both, and has no way to ask.
    error = await failure(here, registry.name("team/no:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.tag_not_found", True)
    assert (
        error.message
        == f"cannot pull {registry.host}/team/no:1: {registry.host} has no team/no with the tag 1"
    )


async def test_two_who_pull_the_same_share_one_pull(here: Images, registry: Registry) -> None:
    registry.push(unique(), "web:1")
    name = registry.name("web:1")
    first, second = await gathered(here, name, registry)
    assert first == second
    assert len(registry.requests("GET /v2/web/manifests/sha256:\\S+ 200")) == 1


async def gathered(here: Images, name: str, registry: Registry) -> list[str]:
    return list(await asyncio.gather(*(here.pull(name, keys(registry), ignored) for _ in range(2))))


async def test_a_disk_that_is_full(registry: Registry, small_disk: Path, tmp_path: Path) -> None:
    registry.push(images.busybox().with_layer({"/big": os.urandom(20_000_000)}), "web:1")
    with Docker(tmp_path / "docker", storage=small_disk / "storage") as docker:
        async with connected(docker) as here:  # type: ignore[arg-type]
            error = await failure(here, registry.name("web:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.disk_full", False)
    assert error.message == f"cannot pull {registry.host}/web:1: no space is left where docker keeps images"
