"""What every Platform must do for the API. Subclass PlatformSuite and provide `opened`.

RunningSuite is for platforms that run what they are given: MemoryPlatform, which shows what a test puts
there, passes the first alone.
"""

import asyncio
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hale.core.deployment import Deployment, Revision, Template
from hale.core.event import Event
from hale.core.probe import ProbeKind, Verdict
from hale.core.replica import Phase
from hale.ports import Observation, Platform, Store

WEB = Deployment("d1", "p", "web", "web", 1.0)


@dataclass(slots=True)
class Given:
    """A platform at work. `write` has a replica write a line, `refuse` has it be unable to run anything."""

    platform: Platform
    store: Store
    write: Callable[[str, str], None]
    refuse: Callable[[], Template]


def spec(replicas: int = 2, **others: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "name": "web",
        "command": ["serve"],
        "resources": {"machineType": "C4", "replicas": replicas, "ports": [80]},
        "healthChecks": {"readiness": {"path": "/", "failureThreshold": 4}},
        **others,
    }


async def applied(given: Given, number: int = 1, **others: Any) -> None:
    document = json.dumps(spec(**others))
    await given.store.apply(WEB, Revision(f"s{number}", WEB.id, number, document, float(number)))
    given.platform.wake(WEB.id)


async def seen(
    given: Given, enough: Callable[[Sequence[Observation]], bool], deployment_id: str = WEB.id
) -> Sequence[Observation]:
    """What is observed as soon as it is enough."""
    async with asyncio.timeout(3600):
        while not enough(found := await given.platform.observe(deployment_id)):
            await asyncio.sleep(0.1)
    return found


def ready(count: int) -> Callable[[Sequence[Observation]], bool]:
    """So many are there, and all of them are ready."""
    return lambda found: [each.replica.phase for each in found] == [Phase.READY] * count


def event(message: str, deployment_id: str | None = WEB.id) -> Event:
    return Event(5.0, "revision.note", message, deployment_id)


async def first(events: AsyncIterator[Event], count: int) -> list[str]:
    """The next so many messages."""
    async with asyncio.timeout(3600):
        return [(await anext(events)).message for _ in range(count)]


class PlatformSuite:
    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Given]:
        """A platform with an empty store."""

    async def test_it_says_what_it_can_not_run_and_nothing_of_what_it_can(self) -> None:
        async with self.opened() as given:
            assert given.platform.unable(Template("key", command=("serve",))) == ""
            assert given.platform.unable(given.refuse()) != ""

    async def test_an_endpoint_is_a_host_that_begins_with_the_slug(self) -> None:
        async with self.opened() as given:
            endpoint = given.platform.endpoint(WEB)
        assert endpoint.startswith("web.")
        assert "/" not in endpoint

    async def test_strangers_can_be_woken_and_observed(self) -> None:
        async with self.opened() as given:
            given.platform.wake("nobody")
            await asyncio.sleep(1)
            assert list(await given.platform.observe("nobody")) == []

    async def test_a_stranger_has_no_lines(self) -> None:
        async with self.opened() as given:
            assert list(await given.platform.log_lines("nobody")) == []

    async def test_events_that_are_there_are_followed_from_a_place_on(self) -> None:
        async with self.opened() as given:
            await given.store.apply(WEB, Revision("s1", WEB.id, 1, json.dumps(spec()), 1.0))
            kept = await given.store.append([event(text) for text in ("one", "two", "three")])
            assert await first(given.platform.follow(WEB.id, after=kept[0].id), 2) == ["two", "three"]

    async def test_a_new_event_comes_to_everyone_who_follows_once_they_are_woken(self) -> None:
        async with self.opened() as given:
            await given.store.apply(WEB, Revision("s1", WEB.id, 1, json.dumps(spec(0)), 1.0))
            async with asyncio.TaskGroup() as group:
                waiting = [
                    group.create_task(first(given.platform.follow(whose, after=0), 1))
                    for whose in (WEB.id, WEB.id, None)
                ]
                await asyncio.sleep(1)
                await given.store.append([event("news")])
                given.platform.wake(WEB.id)
            assert [task.result() for task in waiting] == [["news"]] * 3

    async def test_events_of_others_are_not_of_interest(self) -> None:
        async with self.opened() as given:
            await given.store.apply(WEB, Revision("s1", WEB.id, 1, json.dumps(spec(0)), 1.0))
            await given.store.append([event("of another", "d2"), event("of the server", None), event("own")])
            assert await first(given.platform.follow(WEB.id, after=0), 1) == ["own"]

    async def test_following_ends_with_the_deployment(self) -> None:
        async with self.opened() as given:
            await given.store.apply(WEB, Revision("s1", WEB.id, 1, json.dumps(spec(0)), 1.0))
            await given.store.append([event("the only one")])

            async def followed() -> list[str]:
                return [each.type async for each in given.platform.follow(WEB.id, after=0)]

            async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
                task = group.create_task(followed())
                await asyncio.sleep(1)
                assert not task.done()
                await given.store.delete_deployment(WEB.id)
                given.platform.wake(WEB.id)
            assert task.result()[0] == "revision.note"

    async def test_following_can_be_broken_off(self) -> None:
        async with self.opened() as given, asyncio.TaskGroup() as group:
            task = group.create_task(first(given.platform.follow(None, after=0), 1))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait({task}, timeout=10)
            assert task.cancelled()

    async def test_going_down_with_nothing_to_end_comes_to_an_end(self) -> None:
        async with self.opened() as given, asyncio.timeout(3600):
            await given.platform.down()


class RunningSuite(PlatformSuite):
    async def test_what_is_applied_runs_as_often_as_it_says(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=3)
            found = await seen(given, ready(3))
            assert len({each.replica.id for each in found}) == 3
            assert {each.replica.deployment_id for each in found} == {WEB.id}

    async def test_an_observation_has_the_checks_that_are_configured_and_their_limits(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=1)
            [found] = await seen(given, ready(1))
            assert found.thresholds == {ProbeKind.READINESS: 4}
            assert found.checks.keys() == {ProbeKind.READINESS}
            assert found.checks[ProbeKind.READINESS].verdict is Verdict.PASSING
            assert found.address is not None

    async def test_a_replica_without_checks_becomes_ready_and_shows_none(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=1, healthChecks={})
            [found] = await seen(given, ready(1))
            assert (found.checks, found.thresholds) == ({}, {})

    async def test_replicas_are_observed_oldest_first(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=1)
            [eldest] = await seen(given, ready(1))
            await asyncio.sleep(5)
            await applied(given, 2, replicas=3)
            found = await seen(given, ready(3))
            assert found[0].replica.id == eldest.replica.id
            assert sorted(each.replica.created_at for each in found) == [
                each.replica.created_at for each in found
            ]

    async def test_a_healthy_revision_is_marked(self) -> None:
        async with self.opened() as given:
            await applied(given)
            await seen(given, ready(2))
            await asyncio.sleep(5)
            [newest] = await given.store.revisions(WEB.id, limit=1)
            assert newest.applied_at is not None
            assert newest.healthy_at is not None
            assert newest.error is None

    async def test_a_kept_replica_belongs_to_the_newest_revision(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=1)
            [before] = await seen(given, ready(1))
            await applied(given, 2, replicas=2)
            found = await seen(given, ready(2))
            assert before.replica.id in {each.replica.id for each in found}
            assert {each.replica.revision for each in found} == {2}

    async def test_a_restart_replaces_every_replica(self) -> None:
        async with self.opened() as given:
            await applied(given)
            before = {each.replica.id for each in await seen(given, ready(2))}
            await given.store.put_deployment(replace(WEB, restarts=1))
            given.platform.wake(WEB.id)
            after = await seen(
                given, lambda found: ready(2)(found) and not before & {each.replica.id for each in found}
            )
            assert {each.replica.revision for each in after} == {1}

    async def test_a_disabled_deployment_has_no_replicas_and_is_there(self) -> None:
        async with self.opened() as given:
            await applied(given)
            await seen(given, ready(2))
            await applied(given, 2, enabled=False)
            await seen(given, ready(0))
            assert await given.store.deployment(WEB.id) == WEB

    async def test_a_deleted_deployment_is_gone_from_the_store_when_it_has_ended(self) -> None:
        async with self.opened() as given:
            await applied(given)
            await seen(given, ready(2))
            await given.store.put_deployment(replace(WEB, deleted_at=9.0))
            given.platform.wake(WEB.id)
            await seen(given, ready(0))
            await asyncio.sleep(5)
            assert await given.store.deployments() == []
            assert await given.store.replicas(finished=True) == []
            assert await given.store.events(WEB.id) == []

    async def test_everything_that_happens_is_followed_in_order(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=1)
            told = []
            async with asyncio.timeout(3600):
                async for each in given.platform.follow(WEB.id, after=0):
                    told.append((each.id, each.type))
                    if each.type == "revision.healthy":
                        break
            assert [kind for _, kind in told] == [
                "replica.created",
                "replica.started",
                "replica.startup_passed",
                "replica.ready",
                "deployment.serving",
                "revision.healthy",
            ]
            assert sorted(told) == told

    async def test_the_lines_of_a_replica_are_read_from_a_place_on(self) -> None:
        async with self.opened() as given:
            await applied(given, replicas=1)
            [found] = await seen(given, ready(1))
            for text in ("one", "two", "three"):
                given.write(found.replica.id, text)
            lines = await given.platform.log_lines(found.replica.id)
            assert [line.text for line in lines] == ["one", "two", "three"]
            place = (lines[0].attempt, lines[0].position)
            after = await given.platform.log_lines(found.replica.id, after=place)
            assert [line.text for line in after] == ["two", "three"]

    async def test_down_ends_all_of_it_and_keeps_what_is_wanted(self) -> None:
        async with self.opened() as given:
            await applied(given)
            await seen(given, ready(2))
            async with asyncio.timeout(3600):
                await given.platform.down()
            assert list(await given.platform.observe(WEB.id)) == []
            assert await given.store.replicas() == []
            assert await given.store.deployments() == [WEB]

    @pytest.mark.parametrize("seconds", [0.0, 0.001, 0.3, 5.0])
    async def test_a_change_at_any_moment_is_the_one_that_counts(self, seconds: float) -> None:
        async with self.opened() as given:
            await applied(given, replicas=3)
            await asyncio.sleep(seconds)
            await applied(given, 2, replicas=1, env=[{"name": "A", "value": "b"}])
            found = await seen(given, lambda all_: ready(1)(all_) and all_[0].replica.revision == 2)
            assert len(found) == 1
