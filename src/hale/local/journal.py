"""What the platform remembers: replicas, marks of revisions and events follow into the Store.

When the Store can't (a full disk), hale goes on without: health comes before memory. What could not
be written stays here and is tried again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from hale.core.deployment import Revision
from hale.core.event import Event
from hale.core.probe import Health, ProbeKind
from hale.core.reconcile import Marks
from hale.core.replica import Replica
from hale.errors import HaleError
from hale.ports import Store

log = logging.getLogger(__name__)

_PAUSE = 0.2
"""Seconds that changes nobody waits for are collected."""
_RETRY = 1.0
_KEPT = 10_000
"""Events that wait for a Store that can't."""

Look = Callable[[str], tuple[Replica, Mapping[ProbeKind, Health]] | None]


class Journal:
    """Collects what changed; `flush` writes it. `look` gives a replica as it is, None if it is gone."""

    def __init__(self, store: Store, look: Look, news: Callable[[], None]) -> None:
        self._store = store
        self._look = look
        self._news = news
        self._replicas: set[str] = set()
        self._prepared: dict[tuple[str, int], tuple[str | None, float]] = {}
        self._marks: dict[tuple[str, int], Marks] = {}
        self._events: list[Event] = []
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._failing = ""

    def changed(self, replica_id: str) -> None:
        self._replicas.add(replica_id)
        self._changed.set()

    def mark(self, deployment_id: str, revision: int, marks: Marks) -> None:
        self._marks[deployment_id, revision] = marks
        self._changed.set()

    def prepared(self, deployment_id: str, revision: int, image: str | None, at: float) -> None:
        """The revision's image and volumes are here."""
        self._prepared[deployment_id, revision] = (image, at)
        self._changed.set()

    def tell(self, *events: Event) -> None:
        self._events.extend(events)
        del self._events[:-_KEPT]
        self._changed.set()

    def drop(self, deployment_id: str, replica_ids: Sequence[str]) -> None:
        """Nothing of this deployment is to be written any more."""
        self._replicas.difference_update(replica_ids)
        self._prepared = {key: known for key, known in self._prepared.items() if key[0] != deployment_id}
        self._marks = {key: marks for key, marks in self._marks.items() if key[0] != deployment_id}
        self._events = [event for event in self._events if event.deployment_id != deployment_id]

    async def run(self) -> None:
        """Write what no turn has written, a little later, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_PAUSE)
            if not await self.flush():
                await asyncio.sleep(_RETRY)

    async def flush(self) -> bool:
        """Write everything collected; False when the Store could not, and it will be tried again."""
        async with self._writing:
            self._changed.clear()
            try:
                # First what replicas are made of: nobody would know from the replicas alone.
                await self._write_prepared()
                await self._write_replicas()
                await self._write_marks()
                await self._write_events()
            except Exception as error:
                if str(error) != self._failing:
                    self._failing = str(error)
                    foreseen = isinstance(error, HaleError)
                    log.warning("%s; going on, and trying again", error, exc_info=not foreseen)
                self._changed.set()
                return False
            self._failing = ""
            return True

    async def _write_replicas(self) -> None:
        replica_ids, self._replicas = self._replicas, set()
        states = [
            state for replica_id in sorted(replica_ids) if (state := self._look(replica_id)) is not None
        ]
        try:
            if states:
                await self._store.put_replicas(states)
        except BaseException:
            self._replicas |= replica_ids
            raise

    async def _write_prepared(self) -> None:
        for key, (image, at) in list(self._prepared.items()):
            await self._update(key, partial(_pinned, image, at))
            if self._prepared.get(key) == (image, at):
                del self._prepared[key]

    async def _write_marks(self) -> None:
        for key, marks in list(self._marks.items()):
            await self._update(key, partial(_marked, marks))
            if self._marks.get(key) == marks:
                del self._marks[key]

    async def _update(self, key: tuple[str, int], change: Callable[[Revision], Revision]) -> None:
        deployment_id, number = key
        newest = await self._store.revisions(deployment_id, limit=1)
        known = newest and newest[0].number == number
        for revision in newest if known else await self._store.revisions(deployment_id):
            if revision.number == number:
                await self._store.put_revision(change(revision))

    async def _write_events(self) -> None:
        events, self._events = self._events, []
        if not events:
            return
        try:
            await self._store.append(events)
        except Exception:  # one that was cancelled is written all the same, and not to be written twice
            self._events = [*events, *self._events][-_KEPT:]
            raise
        self._news()


def _pinned(image: str | None, at: float, revision: Revision) -> Revision:
    return replace(revision, image=image, prepared_at=at)


def _marked(marks: Marks, revision: Revision) -> Revision:
    return replace(revision, applied_at=marks.applied_at, healthy_at=marks.healthy_at, error=marks.error)
