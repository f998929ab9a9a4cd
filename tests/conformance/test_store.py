"""Every Store passes the one suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hale.memory.store import MemoryStore
from hale.ports import Store
from hale.store.sqlite import SqliteStore
from tests.conformance.store import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryStore()


@pytest.mark.real_time
class TestSqliteStore(StoreSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        async with SqliteStore.open(tmp_path / "hale.db") as store:
            yield store
