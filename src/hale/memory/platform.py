"""MemoryPlatform: the Platform of API tests; nothing runs, what is observed is what was put there."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from hale.core.deployment import Deployment, Template
from hale.core.event import Event
from hale.core.image import Credentials, Preparation
from hale.errors import HaleError
from hale.ports import LogLine, Observation, Store

_LINES = 1000


class MemoryPlatform:
    """`observations` by deployment and `lines` by replica are what it sees; `woken` is what it was told.

    `refusal` is its answer to every template, `noted` what it notes of each. `preparations` by deployment are
    what revisions wait for, `logins` has the error for the servers that refuse.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._news = asyncio.Event()
        self.observations: dict[str, list[Observation]] = {}
        self.lines: dict[str, list[LogLine]] = {}
        self.woken: list[str] = []
        self.refusal = ""
        self.noted: list[str] = []
        self.preparations: dict[str, Preparation] = {}
        self.logins: dict[str, HaleError] = {}
        self.tried: list[Credentials] = []
        self.is_down = False

    def unable(self, template: Template) -> str:
        return self.refusal

    def notes(self, template: Template) -> Sequence[str]:
        return self.noted

    def preparation(self, deployment_id: str) -> Preparation | None:
        return self.preparations.get(deployment_id)

    async def log_in(self, credentials: Credentials) -> None:
        self.tried.append(credentials)
        if credentials.server in self.logins:
            raise self.logins[credentials.server]

    def wake(self, deployment_id: str) -> None:
        self.woken.append(deployment_id)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def endpoint(self, deployment: Deployment) -> str:
        return f"{deployment.slug}.localhost:8080"

    async def observe(self, deployment_id: str) -> Sequence[Observation]:
        return self.observations.get(deployment_id, [])

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        lines = self.lines.get(replica_id, [])
        return [line for line in lines if (line.attempt, line.position) > after][:_LINES]

    async def follow(self, deployment_id: str | None, *, after: int) -> AsyncIterator[Event]:
        while True:
            news = self._news
            events = await self._store.events(deployment_id, after=after)
            for event in events:
                yield event
                after = event.id
            if not events:
                if deployment_id is not None and await self._store.deployment(deployment_id) is None:
                    return
                await news.wait()

    async def down(self) -> None:
        self.is_down = True
