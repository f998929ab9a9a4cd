"""What is secret is sealed on the disk, and its key is neither lost nor replaced."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from threading import get_ident

import pytest
from cryptography.fernet import Fernet

from hale.core.deployment import Deployment, Revision
from hale.core.image import Registry
from hale.core.secret import Secret
from hale.errors import StoreError
from hale.store.seal import Seal
from hale.store.sqlite import SqliteStore

pytestmark = pytest.mark.real_time

VALUE = "v4lue-that-nobody-may-read"
OLD, PASSWORD, CARRIED = f"old-{VALUE}", f"password-{VALUE}", f"carried-{VALUE}"
SECRET = Secret("TOKEN", VALUE, 1.0, 1.0)
REGISTRY = Registry("r1", "mine", "r.test", "team", "ada", PASSWORD, 1.0, 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hale.db"


@pytest.fixture
def key(path: Path) -> Path:
    return path.with_name("key")


async def fill(store: SqliteStore) -> None:
    await store.put_secret(Secret("TOKEN", OLD, 1.0, 1.0))
    await store.put_secret(SECRET)
    await store.put_registry(REGISTRY)
    revision = Revision("v1", "d", 1, "{}", 1.0, secrets=(Secret("CARRIED", CARRIED, 1.0, 1.0),))
    await store.apply(Deployment("d", "default", "web", "web", 1.0), revision)
    await store.put_secret(Secret("GONE", f"gone-{VALUE}", 1.0, 1.0))
    await store.delete_secret("GONE", None)


async def sealed_database(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        await fill(store)


async def refusal(path: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        async with SqliteStore.open(path):
            pass
    assert caught.value.hint
    assert VALUE not in caught.value.one_line
    return caught.value


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nothing_secret_is_plain_in_the_files_nor_in_a_backup(path: Path) -> None:
    async with SqliteStore.open(path) as store:
        await fill(store)
        with (
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(path.with_name("backup"))) as backup,
        ):
            source.backup(backup)
        open_files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    closed_files = {f"closed {file.name}": file.read_bytes() for file in path.parent.iterdir()}
    assert {"hale.db", "hale.db-wal", "backup", "key"} < set(open_files)
    assert b"TOKEN" in open_files["hale.db-wal"]  # the search would find it
    assert b"TOKEN" in open_files["backup"]
    found = [name for name, content in (open_files | closed_files).items() if VALUE.encode() in content]
    assert found == []


async def test_what_was_sealed_is_read_after_closing_and_opening(path: Path) -> None:
    await sealed_database(path)
    async with SqliteStore.open(path) as store:
        assert (await store.secrets(), await store.registries()) == ([SECRET], [REGISTRY])
        ((carried,),) = [revision.secrets for revision in await store.revisions("d")]
        assert carried.value == CARRIED


async def test_the_key_is_made_with_the_first_secret_for_its_owner_alone(path: Path, key: Path) -> None:
    before = os.umask(0)
    try:
        async with SqliteStore.open(path) as store:
            revision = Revision("v1", "d", 1, "{}", 1.0)
            await store.apply(Deployment("d", "default", "web", "web", 1.0), revision)
            assert not key.exists()
            await store.put_secret(SECRET)
    finally:
        os.umask(before)
    assert mode(key) == 0o600
    assert not key.with_name("key.new").exists()


async def test_the_key_stays_when_the_last_secret_is_gone(path: Path, key: Path) -> None:
    async with SqliteStore.open(path) as store:
        await store.put_secret(SECRET)
        made = key.read_bytes()
        await store.delete_secret("TOKEN", None)
    async with SqliteStore.open(path) as store:
        await store.put_secret(SECRET)
    assert key.read_bytes() == made


async def test_half_a_key_of_a_power_cut_is_no_trouble(path: Path, key: Path) -> None:
    key.with_name("key.new").write_bytes(b"half a k")
    await sealed_database(path)
    async with SqliteStore.open(path) as store:
        assert await store.secrets() == [SECRET]


async def test_a_key_of_others_making_is_used(path: Path, key: Path) -> None:
    key.write_bytes(Fernet.generate_key())
    key.chmod(0o600)
    content = key.read_bytes()
    await sealed_database(path)
    assert key.read_bytes() == content
    async with SqliteStore.open(path) as store:
        assert await store.secrets() == [SECRET]


@pytest.mark.parametrize("sealed", ["secret", "registry", "revision"])
async def test_a_missing_key_is_refused_and_not_made_anew(path: Path, key: Path, sealed: str) -> None:
    await sealed_database(path)
    kept = key.rename(key.with_name("elsewhere"))
    tables = {"secret": "secrets", "registry": "registries", "revision": "revisions"}
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, table in tables.items():
            if name != sealed:
                connection.execute(f"DELETE FROM {table}")
    error = await refusal(path)
    assert error.message == f"cannot read the secrets of the database: their key {key} is not there"
    assert not key.exists()
    kept.rename(key)
    async with SqliteStore.open(path) as store:
        values = [
            *(each.value for each in await store.secrets()),
            *(each.password for each in await store.registries()),
            *(each.value for revision in await store.revisions("d") for each in revision.secrets),
        ]
    assert values == [{"secret": VALUE, "registry": PASSWORD, "revision": CARRIED}[sealed]]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"A" * 43 + b"=", id="another"),
        pytest.param(b"", id="empty"),
        pytest.param(b"not a key\n", id="text"),
        pytest.param(b"\xff\x00" * 22, id="bytes"),
    ],
)
async def test_a_wrong_key_is_refused_and_kept(path: Path, key: Path, content: bytes) -> None:
    await sealed_database(path)
    right = key.read_bytes()
    key.write_bytes(content)
    error = await refusal(path)
    assert str(key) in error.message
    assert "put the file `key` of the same backup there" in error.hint
    assert key.read_bytes() == content
    key.write_bytes(right)
    async with SqliteStore.open(path) as store:
        assert await store.secrets() == [SECRET]


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o620])
async def test_a_key_that_others_can_use_is_refused(path: Path, key: Path, loose: int) -> None:
    await sealed_database(path)
    key.chmod(loose)
    error = await refusal(path)
    assert f"others than its owner can use it (mode {loose:04o})" in error.message
    assert f"chmod 600 {key}" in error.hint
    assert mode(key) == loose


async def test_a_key_that_cannot_be_made_is_an_error_and_keeps_nothing(path: Path, key: Path) -> None:
    blocked = key.with_name("key.new")
    async with SqliteStore.open(path) as store:
        blocked.mkdir()
        with pytest.raises(StoreError, match="cannot write to the database"):
            await store.put_secret(SECRET)
        assert await store.secrets() == []
        blocked.rmdir()
        await store.put_secret(SECRET)
        assert await store.secrets() == [SECRET]


async def test_a_damaged_seal_is_an_error_that_shows_nothing(path: Path) -> None:
    await sealed_database(path)
    async with SqliteStore.open(path) as store:
        await store._write(lambda db: db.execute("UPDATE registries SET password = 'gAAAAA' || password"))
        with pytest.raises(StoreError, match="they are not sealed with the key") as caught:
            await store.registries()
        assert VALUE not in caught.value.one_line
        assert await store.secrets() == [SECRET]


async def test_the_loop_goes_on_while_seals_are_made_and_broken(path: Path) -> None:
    at_work: set[int] = set()

    class Noting(Seal):
        def sealed(self, text: str) -> str:
            at_work.add(get_ident())
            return super().sealed(text)

        def unsealed(self, text: str) -> str:
            at_work.add(get_ident())
            return super().unsealed(text)

    async with SqliteStore.open(path) as store:
        store._seal = Noting(path.with_name("key"))
        await fill(store)
        assert (len(await store.secrets()), len(await store.registries())) == (1, 1)
        assert len(await store.revisions("d")) == 1
    assert len(at_work) == 1
    assert get_ident() not in at_work
