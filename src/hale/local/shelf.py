"""The volumes of deployments: filled, and removed when nobody uses them; of one deployment, one at a time."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from hale.core.image import Progress
from hale.core.volume import Source
from hale.errors import HaleError
from hale.ports import Volumes

log = logging.getLogger(__name__)

_RETRY = 1.0


class Outcomes(Protocol):
    """Whom it concerns. Each call may lead to another turn of the deployment."""

    def troubled(self, deployment_id: str, why: str) -> None: ...
    def nudge(self, deployment_id: str) -> None: ...


class Shelf:
    """What of a deployment's volumes is not kept is removed in a task of its own."""

    def __init__(self, volumes: Volumes, outcomes: Outcomes, group: asyncio.TaskGroup) -> None:
        self._volumes = volumes
        self._outcomes = outcomes
        self._group = group
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._kept: dict[str, frozenset[str]] = {}
        self._removing: dict[str, bool] = {}
        """Whether a turn waits for it, by deployment."""
        self._troubles: dict[str, str] = {}

    async def fill(self, deployment_id: str, source: Source, tell: Callable[[Progress], None]) -> None:
        """As Volumes.fill; nothing is removed meanwhile, nor is another filled."""
        async with self._locks[deployment_id]:
            self._kept.pop(deployment_id, None)  # there is one more from now on
            await self._volumes.fill(deployment_id, source, tell)

    def keep(self, deployment_id: str, keys: frozenset[str], *, wait: bool = False) -> bool:
        """Whether there are no others than these; they are being removed if not.

        With `wait` a turn follows once they are.
        """
        if self._kept.get(deployment_id) == keys:
            return True
        if deployment_id not in self._removing:
            self._group.create_task(self._keep(deployment_id, keys))
            self._removing[deployment_id] = wait
        else:
            # It may be about others: asked again afterwards, they go then.
            self._removing[deployment_id] = True
        return False

    def forget(self, deployment_id: str) -> None:
        """The deployment is no more."""
        for known in (self._kept, self._locks, self._troubles):
            known.pop(deployment_id, None)

    async def _keep(self, deployment_id: str, keys: frozenset[str]) -> None:
        try:
            async with self._locks[deployment_id]:
                await self._volumes.keep(deployment_id, keys)
                self._kept[deployment_id] = keys
            self._troubles.pop(deployment_id, None)
        except Exception as error:
            why = error.message if isinstance(error, HaleError) else f"cannot remove volumes: {error!r}"
            if self._troubles.get(deployment_id) != why:
                self._troubles[deployment_id] = why
                foreseen = isinstance(error, HaleError)
                log.warning("deployment %s: %s", deployment_id, why, exc_info=not foreseen)
                self._outcomes.troubled(deployment_id, why)
            await asyncio.sleep(_RETRY)
            self._removing[deployment_id] = True
        if self._removing.pop(deployment_id):
            self._outcomes.nudge(deployment_id)
