"""Who has a turn: the deployments that were woken, one after the other; trouble is told once, tried again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hale.errors import HaleError

log = logging.getLogger(__name__)

_RETRY = 1.0

Step = Callable[[str], Awaitable[None]]
"""Something to do for the deployment of this id."""


class Turns:
    """`refresh` and then `turn` are done for each deployment that was nudged; `tell` hears of trouble.

    A nudge says which deployment to look at, never what happened: a lost or doubled one changes nothing.
    """

    def __init__(self, refresh: Step, turn: Step, tell: Callable[[str, str], None]) -> None:
        self._refresh = refresh
        self._turn = turn
        self._tell = tell
        self._woken: dict[str, None] = {}
        self._awake = asyncio.Event()
        self._turned = asyncio.Event()
        self._retrying: set[str] = set()
        self._troubles: dict[str, set[str]] = {}

    def nudge(self, deployment_id: str) -> None:
        self._woken[deployment_id] = None
        self._awake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._awake.wait()
            await self.take()

    async def take(self) -> None:
        """A turn for each that was woken."""
        self._awake.clear()
        woken, self._woken = self._woken, {}
        for deployment_id in woken:
            read = await self.attempt(self._refresh, deployment_id)
            # What can't be read anew is looked after as it was: health comes before memory.
            if await self.attempt(self._turn, deployment_id) and read:
                self._troubles.pop(deployment_id, None)
        self._turned.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Return once it is so after a turn."""
        while not done():
            self._turned.clear()
            await self._turned.wait()

    async def attempt(self, do: Step, deployment_id: str) -> bool:
        """One deployment's trouble is not another's: it is told once, and tried again."""
        try:
            await do(deployment_id)
        except Exception as error:
            foreseen = isinstance(error, HaleError)
            why = error.message if isinstance(error, HaleError) else f"cannot look after it: {error!r}"
            if self.troubled(deployment_id, why):
                log.warning("deployment %s: %s", deployment_id, why, exc_info=not foreseen)
            self._retry(deployment_id)
            return False
        return True

    def troubled(self, deployment_id: str, why: str) -> bool:
        """Tell of it, unless it was told since all was well last."""
        known = self._troubles.setdefault(deployment_id, set())
        if why in known:
            return False
        known.add(why)
        self._tell(deployment_id, why)
        return True

    def forget(self, deployment_id: str) -> None:
        """The deployment is no more."""
        self._troubles.pop(deployment_id, None)

    def _retry(self, deployment_id: str) -> None:
        if deployment_id not in self._retrying:
            self._retrying.add(deployment_id)
            asyncio.get_running_loop().call_later(_RETRY, self._again, deployment_id)

    def _again(self, deployment_id: str) -> None:
        self._retrying.discard(deployment_id)
        self.nudge(deployment_id)
