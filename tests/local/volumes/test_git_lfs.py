"""Volumes from real git repositories with objects of git-lfs."""

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hale.core.image import Progress
from hale.core.volume import Source
from hale.local.volumes.folder import FolderVolumes
from hale.local.volumes.git_remote import Remote, shown
from tests.local.volumes.conftest import source, tree, untold, why_not
from tests.local.volumes.git_server import TOKEN, USER, Repository, certificate, served

pytestmark = pytest.mark.real_time

FIRST: Mapping[str, bytes] = {"README.md": b"the first", "model.bin": bytes(range(256)) * 100}
FILES: Mapping[str, bytes] = {
    "README.md": b"hello",
    "model.bin": bytes(range(256)) * 4000,
    "again.bin": bytes(range(256)) * 4000,
    "empty.bin": b"",
    "deep/ü part.bin": b"small",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(tmp_path_factory.mktemp("git") / "falcon.git")
    repository.commit(FIRST, tag="v1")
    (repository.clone / "run.sh").write_text("true")
    (repository.clone / "run.sh").chmod(0o755)
    (repository.clone / "link").symlink_to("README.md")
    (repository.clone / "away").symlink_to("/etc/passwd")
    repository.commit(FILES)
    return repository


@pytest.fixture
def repository(made: Repository) -> Iterator[Repository]:
    """The same for all tests; with its objects whatever a test has done to them."""
    kept = made.objects.with_name("kept")
    shutil.copytree(made.objects, kept)
    yield made
    shutil.rmtree(made.objects, ignore_errors=True)
    kept.rename(made.objects)


def from_git(url: str, **fields: object) -> Source:
    return source("git-lfs", url=url, **fields)


def files(folder: str) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if name != ".gitattributes"}


# --- what is in a volume ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["file://", ""], ids=["file url", "path"])
async def test_a_volume_holds_the_files_and_no_history(
    volumes: FolderVolumes, repository: Repository, scheme: str
) -> None:
    wanted = from_git(f"{scheme}{repository.folder}")
    await volumes.fill("d1", wanted, untold)
    folder = Path(volumes.folder("d1", wanted))
    assert files(str(folder)) == FILES | {"run.sh": b"true"}
    assert not (folder / ".git").exists()
    assert list(folder.parent.iterdir()) == [folder]


async def test_the_files_of_a_repository_on_this_machine_stay_its_own(
    volumes: FolderVolumes, repository: Repository
) -> None:
    before = {path.name: path.stat() for path in repository.objects.rglob("*") if path.is_file()}
    await volumes.fill("d1", from_git(repository.url), untold)
    after = {path.name: path.stat() for path in repository.objects.rglob("*") if path.is_file()}
    assert {name: (was.st_mode, was.st_nlink) for name, was in before.items()} == {
        name: (now.st_mode, now.st_nlink) for name, now in after.items()
    }


async def test_files_of_one_content_take_room_once(volumes: FolderVolumes, repository: Repository) -> None:
    wanted = from_git(repository.url)
    await volumes.fill("d1", wanted, untold)
    folder = Path(volumes.folder("d1", wanted))
    assert (folder / "model.bin").samefile(folder / "again.bin")
    assert (folder / "model.bin").stat().st_nlink == 2


async def test_modes_and_links_are_those_of_the_repository_and_nobody_writes(
    volumes: FolderVolumes, repository: Repository
) -> None:
    wanted = from_git(repository.url)
    await volumes.fill("d1", wanted, untold)
    folder = Path(volumes.folder("d1", wanted))
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("run.sh", "model.bin", "deep", ".")}
    assert modes == {"run.sh": 0o555, "model.bin": 0o444, "deep": 0o555, ".": 0o555}
    assert (str((folder / "link").readlink()), str((folder / "away").readlink())) == (
        "README.md",
        "/etc/passwd",
    )
    assert Path("/etc/passwd").stat().st_mode & 0o222


@pytest.mark.parametrize("kind", ["tag", "commit"])
async def test_what_stands_after_the_hash_is_the_revision(
    volumes: FolderVolumes, repository: Repository, kind: str
) -> None:
    ref = "v1" if kind == "tag" else repository._git(repository.clone, "rev-parse", "v1").strip()
    wanted = from_git(f"{repository.url}#{ref}")
    await volumes.fill("d1", wanted, untold)
    assert files(volumes.folder("d1", wanted)) == FIRST


async def test_progress_counts_objects_and_bytes_and_at_last_all_files(
    volumes: FolderVolumes, repository: Repository
) -> None:
    heard: list[Progress] = []
    wanted = from_git(repository.url)
    await volumes.fill("d1", wanted, heard.append)
    objects = {content for name, content in FILES.items() if name.endswith(".bin") and content}
    size = sum(map(len, objects))
    assert heard[-2] == Progress(len(objects), len(objects), size, size)
    there = tree(volumes.folder("d1", wanted)).values()
    assert heard[-1] == Progress(len(there), len(there), sum(map(len, there)), sum(map(len, there)))


async def test_a_repository_without_large_files_needs_no_git_lfs(
    volumes: FolderVolumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "plain.git")
    repository.commit({"README.md": b"hello"})
    only_git(tmp_path / "bin", monkeypatch)
    wanted = from_git(repository.url)
    await volumes.fill("d1", wanted, untold)
    assert files(volumes.folder("d1", wanted)) == {"README.md": b"hello"}


async def test_settings_of_the_user_and_hooks_make_no_difference(
    volumes: FolderVolumes, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch {trap}\n")
    (tmp_path / "hooks" / "post-checkout").chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {tmp_path}/hooks\n[url "file:///nowhere/"]\n\tinsteadOf = file://\n'
    )
    for name, value in {"HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    wanted = from_git(repository.url)
    await volumes.fill("d1", wanted, untold)
    assert files(volumes.folder("d1", wanted)) == FILES | {"run.sh": b"true"}
    assert not trap.exists()


# --- users and passwords ------------------------------------------------------------------------


async def test_a_password_in_the_url_is_used_and_never_shown(
    volumes: FolderVolumes, repository: Repository
) -> None:
    with served(repository.folder.parent) as url:
        wanted = from_git(f"{url.replace('//', f'//{USER}:{TOKEN}@')}/falcon.git")
        await volumes.fill("d1", wanted, untold)
        assert files(volumes.folder("d1", wanted)) == FILES | {"run.sh": b"true"}
        gone = from_git(f"{url.replace('//', f'//{USER}:{TOKEN}@')}/nothing.git", key="other")
        error = await why_not(volumes, gone)
    assert (error.event, error.fatal) == ("volume.not_found", True)
    assert error.message == f"cannot fill volume falcon from {url}/nothing.git: there is no such repository"


async def test_keys_of_the_integration_are_user_and_password(
    volumes: FolderVolumes, repository: Repository
) -> None:
    with served(repository.folder.parent) as url:
        wanted = from_git(f"{url}/falcon.git", access_key_id=USER, secret_access_key=TOKEN)
        await volumes.fill("d1", wanted, untold)
    assert files(volumes.folder("d1", wanted)) == FILES | {"run.sh": b"true"}


@pytest.mark.parametrize("user", ["", "reader:wrong-TOKEN@"], ids=["nobody", "wrong password"])
async def test_who_may_not_read_is_told_so(volumes: FolderVolumes, repository: Repository, user: str) -> None:
    with served(repository.folder.parent) as url:
        error = await why_not(volumes, from_git(f"{url.replace('//', f'//{user}')}/falcon.git"))
    assert (error.event, error.fatal) == ("volume.denied", True)
    assert "NAME:PASSWORD@host" in error.hint


async def test_a_certificate_is_trusted_when_it_is_named(
    volumes: FolderVolumes, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    with served(repository.folder.parent, pem=pem) as url:
        wanted = from_git(f"{url}/falcon.git", access_key_id=USER, secret_access_key=TOKEN)
        error = await why_not(volumes, wanted)
        assert (error.event, error.fatal) == ("volume.failed", False)
        assert "certificate" in error.message
        assert "SSL_CERT_FILE" in error.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        await volumes.fill("d1", wanted, untold)
    assert files(volumes.folder("d1", wanted)) == FILES | {"run.sh": b"true"}


# --- what may stand in the way ------------------------------------------------------------------


async def test_a_repository_that_is_not_there_is_not_found(volumes: FolderVolumes, tmp_path: Path) -> None:
    error = await why_not(volumes, from_git(f"file://{tmp_path}/nothing"))
    assert (error.event, error.fatal) == ("volume.not_found", True)
    assert "there is no such repository" in error.message


@pytest.mark.parametrize("ref", ["no-such-branch", "1" * 40, "-x", "a:b", "--upload-pack=x"])
async def test_a_revision_that_is_not_there_is_not_found(
    volumes: FolderVolumes, repository: Repository, ref: str
) -> None:
    error = await why_not(volumes, from_git(f"{repository.url}#{ref}"))
    assert (error.event, error.fatal) == ("volume.not_found", True)
    assert "no such branch, tag or commit" in error.message


async def test_an_object_that_is_not_on_the_server_is_not_found(
    volumes: FolderVolumes, repository: Repository
) -> None:
    shutil.rmtree(repository.objects)
    with served(repository.folder.parent) as url:
        wanted = from_git(f"{url}/falcon.git", access_key_id=USER, secret_access_key=TOKEN)
        error = await why_not(volumes, wanted)
    assert (error.event, error.fatal) == ("volume.not_found", True)


async def test_an_object_that_is_not_in_the_folder_is_not_found(
    volumes: FolderVolumes, repository: Repository
) -> None:
    shutil.rmtree(repository.objects)
    error = await why_not(volumes, from_git(repository.url))
    assert (error.event, error.fatal) == ("volume.not_found", True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "git://127.0.0.1:1/x", "ssh://git@127.0.0.1:1/x"])
async def test_a_server_that_is_down_is_unreachable(volumes: FolderVolumes, url: str) -> None:
    error = await why_not(volumes, from_git(url))
    assert (error.event, error.fatal) == ("volume.unreachable", False)


@pytest.mark.parametrize("url", ["ext::sh -c 'touch {}'", "--upload-pack=touch {}", "s3://b/x", "http://[x"])
async def test_what_is_no_url_of_a_repository_is_refused(
    volumes: FolderVolumes, tmp_path: Path, url: str
) -> None:
    error = await why_not(volumes, from_git(url.format(tmp_path / "trap")))
    assert (error.event, error.fatal) == ("volume.failed", True)
    assert not (tmp_path / "trap").exists()


async def test_a_full_disk_is_told(small: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "large.git")
    repository.commit({"large.bin": os.urandom(16 << 20)})
    async with FolderVolumes(small) as volumes:
        error = await why_not(volumes, from_git(repository.url))
        assert (error.event, error.fatal) == ("volume.disk_full", False), error.message
        assert [path for path in small.rglob("*") if path.is_file()] == []


def only_git(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Nothing but git itself, and what is named, is on the PATH."""
    folder.mkdir()
    for name in names or ("git",):
        (folder / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(("there", "missing"), [("git", "git-lfs"), ("sh", "git")])
async def test_a_missing_program_is_named_with_what_installs_it(
    volumes: FolderVolumes,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: str,
    missing: str,
) -> None:
    only_git(tmp_path / "bin", monkeypatch, there)
    error = await why_not(volumes, from_git(repository.url))
    assert (error.event, error.fatal) == ("volume.failed", True)
    assert f"{missing} is not here" in error.message
    assert error.hint.startswith("apt install git")


# --- ends in the middle -------------------------------------------------------------------------


async def test_a_cancelled_filling_leaves_nothing(volumes: FolderVolumes) -> None:
    """A server that accepts and never answers."""
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wanted = from_git(f"http://127.0.0.1:{port}/x")
    async with server, asyncio.TaskGroup() as group:
        task = group.create_task(volumes.fill("d1", wanted, untold))
        await arrived.wait()
        task.cancel()
    folder = Path(volumes.folder("d1", wanted)).parent
    assert list(folder.iterdir()) == []


# --- urls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://hub/x/y", "https://hub/x/y"),
        ("https://me:se%40cret@hub:8443/x#v1", "https://hub:8443/x#v1"),
        ("https://TOKEN@hub/x", "https://hub/x"),
        ("https://me:a@b@hub/x", "https://hub/x"),
        ("https://hub/x?token=TOKEN#main", "https://hub/x#main"),
        ("ssh://git@hub/x", "ssh://hub/x"),
        ("https://me:TO/KEN@hub/x", "https://hub/x"),
        ("https://me:TO#KEN@hub/x", "https://hub/x"),
        ("https://me:TO?KEN@hub/x", "https://hub/x"),
        ("https://hub:8443/x@2#v@3", "https://hub:8443/x@2#v@3"),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(url: str, text: str) -> None:
    assert shown(from_git(url)) == text


@pytest.mark.parametrize("mark", "/?#")
async def test_a_password_that_is_cut_off_is_refused_unseen(volumes: FolderVolumes, mark: str) -> None:
    error = await why_not(volumes, from_git(f"https://me:TOKEN{mark}TOKEN@hub/x"))
    assert error.message == "cannot fill volume falcon from https://hub/x: it is no url of a repository"
    assert "/ is %2F, ? is %3F, # is %23" in error.hint


def test_a_url_is_taken_apart() -> None:
    remote = Remote.of(from_git("https://me:se%40cret@hub:8443/x#v1"))
    assert (remote.url, remote.ref, remote.username, remote.password) == (
        "https://hub:8443/x",
        "v1",
        "me",
        "se@cret",
    )
    assert "se@cret" not in remote.configuration()
    assert "se@cret" not in repr(remote)
    assert Remote.of(from_git("ssh://git@hub/x")).url == "ssh://git@hub/x"
