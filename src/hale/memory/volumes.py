"""MemoryVolumes: folders that are names, filled as a test says."""

import asyncio
from collections.abc import Callable, Collection

from hale.core.image import Progress
from hale.core.volume import Source
from hale.errors import HaleError


class MemoryVolumes:
    """Passes the same suite as the real ones.

    `fills` has every filling that was begun, by name; each takes `fill_time` seconds. `failures` has the
    error for the integrations that can't be filled, `failure` the one of every removal. `filled` are the
    volumes that are whole, by deployment and key.
    """

    def __init__(self) -> None:
        self.fills: list[str] = []
        self.fill_time = 0.0
        self.failures: dict[str, HaleError] = {}
        self.failure: HaleError | None = None
        self.filled: set[tuple[str, str]] = set()

    def folder(self, deployment_id: str, source: Source) -> str:
        return f"/volumes/{deployment_id}/{source.key}"

    async def fill(self, deployment_id: str, source: Source, tell: Callable[[Progress], None]) -> None:
        place = (deployment_id, source.key)
        if place in self.filled:
            return
        if not source.writable:
            self.fills.append(source.name)
            tell(Progress(0, 1))
            await asyncio.sleep(self.fill_time)
            if source.name in self.failures:
                raise self.failures[source.name]
            tell(Progress(1, 1))
        self.filled.add(place)

    async def keep(self, deployment_id: str, keys: Collection[str]) -> None:
        if self.failure is not None:
            raise self.failure
        self.filled = {(owner, key) for owner, key in self.filled if owner != deployment_id or key in keys}
