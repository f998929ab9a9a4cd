"""A gateway of its own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from local.balancers.rig import Rig, rig


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path / "gateway") as built:
        yield built
