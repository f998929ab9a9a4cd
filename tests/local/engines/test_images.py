"""Images on a real Podman, from a real registry: pulled, found, and each way in which that fails."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kit import images
from kit.podman import Podman
from kit.registry import Registry

from hale.core.image import Credentials, Progress
from hale.errors import EngineUnavailableError, HaleError, PreparationError
from hale.local.engines.architecture import runs
from hale.local.engines.container_api import Api
from hale.local.engines.images import Images

pytestmark = pytest.mark.real_time

FOREIGN = "s390x"


def ignored(_: Progress) -> None:
    """For tests that are not about it."""


def keys(registry: Registry, *, password: str | None = None) -> Credentials:
    return Credentials(registry.host, registry.username, password or registry.password)


def unique() -> images.Image:
    """One that no engine here has a layer of."""
    return images.busybox().with_layer({"/unique": os.urandom(1000)})


@asynccontextmanager
async def connected(podman: Podman) -> AsyncIterator[Images]:
    api = Api([podman.socket])
    await api.connect()
    try:
        yield Images(api)
    finally:
        await api.close()


@pytest.fixture
async def here(podman: Podman, registry: Registry) -> AsyncIterator[Images]:
    """After the registry: Podman is started again to trust it."""
    async with connected(podman) as images:
        yield images


async def failure(here: Images, image: str, credentials: Credentials | None) -> PreparationError:
    with pytest.raises(PreparationError) as caught:
        await here.pull(image, credentials, ignored)
    return caught.value


# --- pulling --------------------------------------------------------------------------------


async def test_a_pull_returns_a_reference_that_stays_though_the_tag_moves(
    here: Images, registry: Registry, podman: Podman
) -> None:
    first, second = unique(), unique()
    digest = registry.push(first, "web:1")
    name = registry.name("web:1")
    pulled = await here.pull(name, keys(registry), ignored)
    registry.push(second, "web:1")
    newer = await here.pull(name, keys(registry), ignored)
    assert (pulled, newer != pulled) == (registry.name(f"web@{digest}"), True)
    assert await here.find_image(pulled) == pulled
    assert await here.find_image(name) == newer
    assert podman.id_of(pulled) == first.id


async def test_an_unchanged_tag_has_the_same_reference(here: Images, registry: Registry) -> None:
    registry.push(unique(), "web:1")
    name = registry.name("web:1")
    first = await here.pull(name, keys(registry), ignored)
    assert await here.pull(name, keys(registry), ignored) == first


async def test_a_reference_can_be_pulled_again_once_the_image_is_gone(
    here: Images, registry: Registry, podman: Podman
) -> None:
    registry.push(unique(), "team/web:1")
    pulled = await here.pull(registry.name("team/web:1"), keys(registry), ignored)
    podman.run("rmi", "--force", registry.name("team/web:1"))
    assert await here.find_image(pulled) is None
    assert await here.pull(pulled, keys(registry), ignored) == pulled
    assert await here.find_image(pulled) == pulled


async def test_a_name_for_several_architectures_stands_for_the_one_of_this_machine(
    here: Images, registry: Registry, podman: Podman
) -> None:
    ours, theirs = unique(), replace(unique(), architecture=FOREIGN)
    registry.push_all([theirs, ours], "web:all")
    pulled = await here.pull(registry.name("web:all"), keys(registry), ignored)
    assert podman.id_of(pulled) == ours.id
    podman.run("rmi", "--force", registry.name("web:all"))
    assert await here.pull(pulled, keys(registry), ignored) == pulled


async def test_the_same_image_from_two_registries_has_the_digest_of_each(
    registry: Registry, podman: Podman, tmp_path: Path
) -> None:
    image = unique()
    digest = registry.push(image, "web:1")
    with Registry(tmp_path / "other") as other:
        # Its list has another digest; both are the same image here.
        other.push_all([image], "team/web:1")
        podman.trust(other.host)
        async with connected(podman) as here:
            first = await here.pull(registry.name("web:1"), keys(registry), ignored)
            second = await here.pull(other.name("team/web:1"), keys(other), ignored)
            again = await here.pull(registry.name("web:1"), keys(registry), ignored)
            podman.run("rmi", "--force", image.id)
            assert await here.pull(second, keys(other), ignored) == second
    assert (first, again) == (registry.name(f"web@{digest}"), first)


async def test_an_image_that_was_built_and_pushed_here_has_the_digest_of_the_registry(
    here: Images, registry: Registry, podman: Podman, tmp_path: Path
) -> None:
    # Here its layers are not compressed, there they are: two manifests, one image, both of this store.
    name = registry.name("web:1")
    (tmp_path / "Dockerfile").write_text(f"FROM localhost/busybox:1\nENV ONCE={os.urandom(8).hex()}\n")
    podman.run("build", "--network", "none", "--tag", name, str(tmp_path))
    podman.push(name, registry.username, registry.password)
    pulled = await here.pull(name, keys(registry), ignored)
    assert await here.pull(name, keys(registry), ignored) == pulled
    podman.run("rmi", "--force", podman.id_of(pulled))
    assert await here.find_image(pulled) is None
    assert await here.pull(pulled, keys(registry), ignored) == pulled


async def test_progress_counts_layers_and_ends_with_all(here: Images, registry: Registry) -> None:
    registry.push(unique().with_layer({"/more": os.urandom(1000)}), "web:1")
    heard: list[Progress] = []
    await here.pull(registry.name("web:1"), keys(registry), heard.append)
    assert heard[0] == Progress()
    assert [each.done for each in heard] == sorted(each.done for each in heard)
    assert heard[-1].done == heard[-1].total >= 3


async def test_progress_tells_bytes_of_a_layer_that_takes_long(here: Images, registry: Registry) -> None:
    registry.push(images.busybox().with_layer({"/big": os.urandom(20_000_000)}), "web:1")
    heard: list[Progress] = []

    async def slow_down() -> None:
        while True:  # Podman tells of bytes once a second at most
            registry.pause()
            await asyncio.sleep(1.1)
            registry.resume()
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        slow = group.create_task(slow_down())
        pull = group.create_task(here.pull(registry.name("web:1"), keys(registry), heard.append))
        pull.add_done_callback(lambda _: slow.cancel())
    assert max(each.bytes_total for each in heard) >= 20_000_000
    assert any(0 < each.bytes_done < each.bytes_total for each in heard)
    assert heard[-1].bytes_done == heard[-1].bytes_total


# --- one at a time --------------------------------------------------------------------------


async def test_two_who_pull_the_same_share_one_pull(here: Images, registry: Registry) -> None:
    registry.push(unique(), "web:1")
    heard: tuple[list[Progress], list[Progress]] = ([], [])
    async with asyncio.TaskGroup() as group:
        pulls = [
            group.create_task(here.pull(registry.name("web:1"), keys(registry), each.append))
            for each in heard
        ]
    assert pulls[0].result() == pulls[1].result()
    assert len(registry.requests("GET /v2/web/manifests/1 200")) == 1
    assert heard[0][-1] == heard[1][-1]


async def test_two_who_pull_the_same_share_its_failure(here: Images, registry: Registry) -> None:
    async with asyncio.TaskGroup() as group:
        pulls = [group.create_task(failure(here, registry.name("no:1"), keys(registry))) for _ in range(2)]
    assert [pull.result().event for pull in pulls] == ["image.not_found", "image.not_found"]
    assert len(registry.requests("GET /v2/no/manifests/1 404")) == 1


@pytest.mark.parametrize("gone", [0, 1], ids=["who began", "who joined"])
async def test_one_who_gives_up_does_not_break_the_pull_of_the_other(
    here: Images, registry: Registry, gone: int
) -> None:
    digest = registry.push(unique(), "web:1")
    registry.pause()
    async with asyncio.TaskGroup() as group:
        pulls = [
            group.create_task(here.pull(registry.name("web:1"), keys(registry), ignored)) for _ in range(2)
        ]
        await asyncio.sleep(0.1)
        pulls[gone].cancel()
        await asyncio.sleep(0)
        registry.resume()
    assert pulls[gone].cancelled()
    assert pulls[1 - gone].result() == registry.name(f"web@{digest}")


async def test_with_other_credentials_it_is_another_pull(here: Images, registry: Registry) -> None:
    registry.push(unique(), "web:1")
    name = registry.name("web:1")
    async with asyncio.TaskGroup() as group:
        good = group.create_task(here.pull(name, keys(registry), ignored))
        bad = group.create_task(failure(here, name, keys(registry, password="wrong")))
    assert good.result().startswith(registry.name("web@sha256:"))
    assert bad.result().event == "image.denied"


# --- how it fails ---------------------------------------------------------------------------


async def test_an_image_that_the_registry_does_not_have(here: Images, registry: Registry) -> None:
    error = await failure(here, registry.name("team/no:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.not_found", True)
    assert error.message == f"cannot pull {registry.host}/team/no:1: {registry.host} has no team/no"


async def test_a_tag_that_the_image_does_not_have(here: Images, registry: Registry) -> None:
    registry.push(images.busybox(), "team/web:1")
    error = await failure(here, registry.name("team/web:2"), keys(registry))
    assert (error.event, error.fatal) == ("image.tag_not_found", True)
    assert error.message == (
        f"cannot pull {registry.host}/team/web:2: {registry.host} has no team/web with the tag 2"
    )


@pytest.mark.parametrize("password", ["wrong", None], ids=["wrong password", "no password"])
async def test_a_registry_that_denies_access(here: Images, registry: Registry, password: str | None) -> None:
    registry.push(images.busybox(), "web:1")
    credentials = keys(registry, password=password) if password else None
    error = await failure(here, registry.name("web:1"), credentials)
    assert (error.event, error.fatal) == ("image.denied", True)
    assert error.message == f"cannot pull {registry.host}/web:1: {registry.host} denies access to web"
    assert "containerRegistry" in error.hint


async def test_no_registry_is_told_the_credentials_of_another(here: Images, registry: Registry) -> None:
    registry.push(images.busybox(), "web:1")
    theirs = replace(keys(registry), server="registry.example.com")
    assert (await failure(here, registry.name("web:1"), theirs)).event == "image.denied"
    assert (await failure(here, registry.name("no:1"), theirs)).event == "image.denied"


async def test_a_registry_that_is_down(here: Images, registry: Registry) -> None:
    registry.push(images.busybox(), "web:1")
    registry.stop()
    error = await failure(here, registry.name("web:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.unreachable", False)
    assert error.message == (
        f"cannot pull {registry.host}/web:1: {registry.host} can't be reached: connection refused"
    )
    registry.start()
    assert await here.pull(registry.name("web:1"), keys(registry), ignored)


async def test_a_registry_whose_name_leads_nowhere(here: Images) -> None:
    error = await failure(here, "registry.example.invalid/web:1", None)
    assert (error.event, error.fatal) == ("image.unreachable", False)


async def test_a_registry_whose_certificate_nobody_trusts(here: Images, tls_registry: Registry) -> None:
    tls_registry.push(images.busybox(), "web:1")
    error = await failure(here, tls_registry.name("web:1"), keys(tls_registry))
    assert (error.event, error.fatal) == ("image.untrusted", True)
    assert f"/etc/docker/certs.d/{tls_registry.host}/ca.crt" in error.hint


async def test_a_registry_without_tls_that_is_not_trusted(
    here: Images, podman: Podman, tmp_path: Path
) -> None:
    with Registry(tmp_path / "plain") as plain:
        error = await failure(here, plain.name("web:1"), keys(plain))
    assert (error.event, error.fatal) == ("image.untrusted", True)
    assert f'location = "{plain.host}"' in error.hint


async def test_an_image_for_another_architecture(here: Images, registry: Registry) -> None:
    registry.push(replace(unique(), architecture=FOREIGN), "web:1")
    error = await failure(here, registry.name("web:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.wrong_architecture", True)
    assert error.message == (
        f"cannot run {registry.host}/web:1: it is for {FOREIGN}, and this machine is {images.architecture()}"
    )


async def test_an_image_for_other_architectures_alone(here: Images, registry: Registry) -> None:
    registry.push_all([replace(unique(), architecture=FOREIGN)], "web:1")
    error = await failure(here, registry.name("web:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.wrong_architecture", True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full(registry: Registry, small_disk: Path, tmp_path: Path) -> None:
    registry.push(images.busybox().with_layer({"/big": os.urandom(20_000_000)}), "web:1")
    with Podman(tmp_path / "podman", storage=small_disk / "storage") as podman:
        podman.trust(registry.host)
        async with connected(podman) as here:
            error = await failure(here, registry.name("web:1"), keys(registry))
    assert (error.event, error.fatal) == ("image.disk_full", False)
    assert error.message == (f"cannot pull {registry.host}/web:1: no space is left where podman keeps images")


async def test_an_engine_that_goes_away_while_it_pulls(
    here: Images, registry: Registry, podman: Podman
) -> None:
    registry.push(images.busybox(), "web:1")
    registry.pause()
    async with asyncio.TaskGroup() as group:
        pull = group.create_task(outcome(here.pull(registry.name("web:1"), keys(registry), ignored)))
        await asyncio.sleep(0.1)
        podman.stop()
    registry.resume()
    podman.start()
    assert isinstance(pull.result(), EngineUnavailableError)


async def outcome(pull: Awaitable[str]) -> str | HaleError:
    try:
        return await pull
    except HaleError as error:
        return error


# --- what is here ---------------------------------------------------------------------------


async def test_what_was_made_here_is_found_by_its_id(here: Images) -> None:
    identity = images.web("1").id
    assert await here.find_image("localhost/web:1") == identity
    assert await here.find_image(identity) == identity
    assert await here.pull(identity, None, ignored) == identity


async def test_what_is_not_here_is_not_found(here: Images) -> None:
    assert await here.find_image("localhost/no:1") is None
    assert await here.find_image(f"localhost/web@sha256:{'0' * 64}") is None
    assert await here.find_image(f"sha256:{'0' * 64}") is None


async def test_what_was_made_here_and_is_gone_cannot_be_pulled(here: Images) -> None:
    error = await failure(here, f"sha256:{'0' * 64}", None)
    assert (error.event, error.fatal) == ("image.not_found", True)
    assert error.message.endswith("it was made on this machine, no registry has it, and it is gone")


# --- logging in -----------------------------------------------------------------------------


async def test_the_right_password_logs_in(here: Images, registry: Registry) -> None:
    await here.log_in(keys(registry))


@pytest.mark.parametrize("password", ["wrong", "ro\nbot"])
async def test_a_wrong_password_does_not(here: Images, registry: Registry, password: str) -> None:
    with pytest.raises(PreparationError) as caught:
        await here.log_in(keys(registry, password=password))
    assert (caught.value.event, caught.value.fatal) == ("image.denied", True)
    assert caught.value.message == f"cannot log in to {registry.host}: wrong username or password"


async def test_nobody_logs_in_where_nobody_answers(here: Images, registry: Registry) -> None:
    registry.stop()
    with pytest.raises(PreparationError) as caught:
        await here.log_in(keys(registry))
    assert caught.value.event == "image.unreachable"


async def test_nobody_logs_in_where_the_certificate_is_not_trusted(
    here: Images, tls_registry: Registry
) -> None:
    with pytest.raises(PreparationError) as caught:
        await here.log_in(keys(tls_registry))
    assert caught.value.event == "image.untrusted"


async def test_a_log_in_with_tls(tls_registry: Registry, podman: Podman) -> None:
    podman.trust(tls_registry.host)
    async with connected(podman) as here:
        await here.log_in(keys(tls_registry))
        with pytest.raises(PreparationError) as caught:
            await here.log_in(keys(tls_registry, password="wrong"))
    assert caught.value.event == "image.denied"


async def test_a_log_in_leaves_nothing_with_the_engine(
    here: Images, registry: Registry, podman: Podman
) -> None:
    registry.push(unique(), "web:1")
    await here.log_in(keys(registry))
    assert (await failure(here, registry.name("web:1"), None)).event == "image.denied"


# --- architectures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_image", "of_machine", "does"),
    [
        ("amd64", "amd64", True),
        ("x86_64", "amd64", True),
        ("arm64", "aarch64", True),
        ("386", "amd64", True),
        ("arm", "arm64", True),
        ("", "amd64", True),
        ("arm64", "amd64", False),
        ("amd64", "arm64", False),
        ("amd64", "386", False),
        ("s390x", "amd64", True),
        ("riscv64", "amd64", False),
    ],
)
def test_a_machine_runs_its_own_and_what_it_has_an_emulator_for(
    tmp_path: Path, of_image: str, of_machine: str, does: bool
) -> None:
    (tmp_path / "qemu-s390x").write_text("enabled\ninterpreter /usr/bin/qemu-s390x-static\n")
    (tmp_path / "qemu-riscv64").write_text("disabled\n")
    assert runs(of_image, of_machine, binfmt=tmp_path) is does
