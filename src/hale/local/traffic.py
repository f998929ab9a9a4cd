"""What the balancer is told: the whole table whenever it changed, and single verdicts by the short way."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from hale.clock import Clock
from hale.core.event import Event, Level
from hale.core.replica import Replica
from hale.errors import HaleError
from hale.local.managed import server_id
from hale.ports import Balancer, Route

log = logging.getLogger(__name__)

_RETRY = 1.0


class Traffic:
    """`table` is the traffic of every deployment as it should be; `tell` takes what operators should know."""

    def __init__(
        self,
        balancer: Balancer,
        table: Callable[[], Sequence[Route]],
        clock: Clock,
        tell: Callable[[Event], None],
    ) -> None:
        self._balancer = balancer
        self._table = table
        self._clock = clock
        self._tell = tell
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The table is another than the balancer was given."""
        self._changed.set()

    def set_ready(self, replica: Replica, *, ready: bool) -> None:
        self._balancer.set_ready(server_id(replica), ready=ready)

    async def run(self) -> None:
        """Give the balancer the table until cancelled; a failure is told once and tried again."""
        failing = ""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._balancer.apply(self._table())
                failing = ""
            except Exception as error:
                why = error.message if isinstance(error, HaleError) else f"cannot tell the gateway: {error!r}"
                if why != failing:
                    failing = why
                    log.warning(why, exc_info=not isinstance(error, HaleError))
                    self._tell(Event(self._clock.now(), "gateway.trouble", why, level=Level.WARNING))
                await asyncio.sleep(_RETRY)
                self._changed.set()
