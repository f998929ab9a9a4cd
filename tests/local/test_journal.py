"""What is remembered, when, and what becomes of it while the Store can't."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from hale.core.deployment import Deployment, Revision
from hale.core.event import Event
from hale.core.probe import Health, ProbeKind, Verdict
from hale.core.reconcile import Marks
from hale.core.replica import Phase, Replica
from hale.errors import StoreError
from hale.local.journal import Journal
from hale.memory.store import MemoryStore, State
from tests.core.given import READINESS, replica

PASSING = {READINESS: Health(Verdict.PASSING, 1, ok=True)}


class Store(MemoryStore):
    """Fails with `failure`, takes `takes` seconds for events, and counts its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.takes = 0.0
        self.writes: list[str] = []

    async def put_replicas(self, states: Sequence[State]) -> None:
        self._write("replicas")
        await super().put_replicas(states)

    async def put_revision(self, revision: Revision) -> None:
        self._write("revision")
        await super().put_revision(revision)

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        self._write("events")
        kept = await super().append(events)
        await asyncio.sleep(self.takes)
        return kept

    def _write(self, what: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.writes.append(what)


class Given:
    """A journal over a store, and the replicas that it looks at."""

    def __init__(self) -> None:
        self.store = Store()
        self.replicas: dict[str, Replica] = {}
        self.news = 0
        self.journal = Journal(self.store, self._look, self._tell)

    def _look(self, replica_id: str) -> tuple[Replica, Mapping[ProbeKind, Health]] | None:
        known = self.replicas.get(replica_id)
        return (known, PASSING) if known else None

    def _tell(self) -> None:
        self.news += 1

    def change(self, replica_id: str = "r1", phase: Phase = Phase.READY) -> None:
        self.replicas[replica_id] = replica(phase, id=replica_id)
        self.journal.changed(replica_id)

    async def phases(self) -> dict[str, Phase]:
        return {each.id: each.phase for each, _ in await self.store.replicas(finished=True)}

    async def messages(self) -> list[str]:
        return [each.message for each in await self.store.events()]


@asynccontextmanager
async def at_work() -> AsyncIterator[Given]:
    given = Given()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(given.journal.run())
        yield given
        task.cancel()


def event(message: str = "ready", deployment_id: str = "d1") -> Event:
    return Event(1.0, "replica.ready", message, deployment_id)


async def test_everything_is_written_in_one_flush() -> None:
    given = Given()
    await given.store.apply(Deployment("d1", "p", "web", "web", 1.0), Revision("s1", "d1", 1, "{}", 1.0))
    given.change()
    given.journal.mark("d1", 1, Marks(2.0, 3.0, "no"))
    given.journal.tell(event("one"), event("two"))
    assert await given.journal.flush()
    [revision] = await given.store.revisions("d1")
    assert await given.store.replicas() == [(given.replicas["r1"], PASSING)]
    assert (revision.applied_at, revision.healthy_at, revision.error) == (2.0, 3.0, "no")
    assert await given.messages() == ["one", "two"]
    assert given.news == 1


async def test_nothing_to_write_is_not_written() -> None:
    given = Given()
    given.change()
    await given.journal.flush()
    await given.journal.flush()
    assert given.store.writes == ["replicas"]


async def test_what_nobody_flushes_is_written_a_little_later_together() -> None:
    async with at_work() as given:
        for phase in (Phase.STARTING, Phase.UNREADY, Phase.READY):
            given.change("r1", phase)
            given.journal.tell(event(phase))
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert given.store.writes == ["replicas", "events"]
        assert await given.phases() == {"r1": Phase.READY}


async def test_a_replica_that_is_gone_is_not_written() -> None:
    given = Given()
    given.journal.changed("gone")
    assert await given.journal.flush()
    assert given.store.writes == []


@pytest.mark.parametrize("failure", [StoreError("cannot write: disk full"), RuntimeError("a mistake")])
async def test_what_can_not_be_written_is_written_when_it_can_be_as_it_is_then(failure: Exception) -> None:
    async with at_work() as given:
        given.store.failure = failure
        given.change("r1", Phase.STARTING)
        given.journal.tell(event("one"))
        assert not await given.journal.flush()
        given.change("r1", Phase.READY)
        given.journal.tell(event("two"))
        await asyncio.sleep(600)
        given.store.failure = None
        await asyncio.sleep(2)
        assert await given.phases() == {"r1": Phase.READY}
        assert await given.messages() == ["one", "two"]


async def test_trouble_is_told_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    async with at_work() as given:
        for _ in range(2):
            given.store.failure = StoreError("cannot write: disk full")
            given.change()
            await asyncio.sleep(60)
            given.store.failure = None
            await asyncio.sleep(2)
    assert [each.getMessage() for each in caplog.records] == [
        "cannot write: disk full; going on, and trying again"
    ] * 2


async def test_while_the_store_can_not_the_newest_10_000_events_are_kept() -> None:
    given = Given()
    given.store.failure = StoreError("cannot write: disk full")
    for number in range(10_050):
        given.journal.tell(event(str(number)))
        if number == 10_000:
            await given.journal.flush()
    await given.journal.flush()
    given.store.failure = None
    await given.journal.flush()
    messages = [each.message for each in await given.store.events(limit=20_000)]
    assert messages == [str(number) for number in range(50, 10_050)]


async def test_what_is_dropped_is_not_written_and_what_is_another_s_is() -> None:
    given = Given()
    given.change("r1")
    given.change("r2")
    given.journal.mark("d1", 1, Marks(1.0))
    given.journal.tell(event("of one", "d1"), event("of another", "d2"))
    given.journal.drop("d1", ["r1"])
    await given.journal.flush()
    assert await given.phases() == {"r2": Phase.READY}
    assert await given.messages() == ["of another"]
    assert "revision" not in given.store.writes


async def test_marks_that_change_while_they_are_written_are_written_again() -> None:
    given = Given()
    await given.store.apply(Deployment("d1", "p", "web", "web", 1.0), Revision("s1", "d1", 1, "{}", 1.0))
    given.journal.mark("d1", 1, Marks(1.0))
    async with asyncio.TaskGroup() as group:
        group.create_task(given.journal.flush())
        await asyncio.sleep(0)
        given.journal.mark("d1", 1, Marks(1.0, 2.0))
        group.create_task(given.journal.flush())
    [revision] = await given.store.revisions("d1")
    assert revision.healthy_at == 2.0


async def test_events_whose_write_was_cancelled_are_not_written_twice() -> None:
    """The Store finishes what it was given, whoever has lost patience."""
    given = Given()
    given.store.takes = 10.0
    given.journal.tell(event("once"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(given.journal.flush())
        await asyncio.sleep(1)
        task.cancel()
    given.store.takes = 0.0
    assert await given.journal.flush()
    assert await given.messages() == ["once"]


async def test_two_flushes_at_once_write_everything_once_and_in_order() -> None:
    given = Given()
    given.store.takes = 1.0
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            given.journal.tell(event(str(number)))
            group.create_task(given.journal.flush())
            await asyncio.sleep(0.3)
    assert await given.messages() == ["0", "1", "2", "3", "4"]


async def test_what_a_revision_is_made_of_is_written_before_its_replicas_and_kept_by_later_marks() -> None:
    given = Given()
    await given.store.apply(Deployment("d1", "p", "web", "web", 1.0), Revision("s1", "d1", 1, "{}", 1.0))
    given.change()
    given.journal.prepared("d1", 1, "web@sha256:a", 2.0)
    await given.journal.flush()
    assert given.store.writes == ["revision", "replicas"]
    given.journal.mark("d1", 1, Marks(3.0))
    await given.journal.flush()
    [revision] = await given.store.revisions("d1")
    assert (revision.image, revision.prepared_at, revision.applied_at) == ("web@sha256:a", 2.0, 3.0)


async def test_what_was_prepared_while_the_store_could_not_is_written_when_it_can() -> None:
    given = Given()
    await given.store.apply(Deployment("d1", "p", "web", "web", 1.0), Revision("s1", "d1", 1, "{}", 1.0))
    given.store.failure = StoreError("cannot write: disk full")
    given.journal.prepared("d1", 1, None, 2.0)
    assert not await given.journal.flush()
    given.store.failure = None
    await given.journal.flush()
    [revision] = await given.store.revisions("d1")
    assert (revision.image, revision.prepared_at) == (None, 2.0)
    assert given.store.writes == ["revision"]


async def test_of_a_dropped_deployment_no_preparation_is_written() -> None:
    given = Given()
    given.journal.prepared("d1", 1, None, 2.0)
    given.journal.drop("d1", [])
    await given.journal.flush()
    assert given.store.writes == []
