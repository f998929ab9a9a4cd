"""What every Store must do. Subclass StoreSuite and provide the `store` fixture."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Event, Level, Link
from hale.core.image import Registry
from hale.core.probe import Health, ProbeKind, ProbeResult, Verdict
from hale.core.replica import Phase, Replica
from hale.core.secret import Secret
from hale.errors import StoreError
from hale.ports import Store

CAUSE = (Link("check", 11.0, "readiness failed: 503"), Link("stop", 12.5, "asked to end"))


def deployment(deployment_id: str = "d1", *, at: float = 1.0, slug: str = "web") -> Deployment:
    return Deployment(deployment_id, "default", f"name of {deployment_id}", slug, at)


def revision(number: int = 1, *, deployment_id: str = "d1", document: str = "{}") -> Revision:
    return Revision(f"{deployment_id}-{number}", deployment_id, number, document, float(number))


def replica(replica_id: str, *, deployment_id: str = "d1", at: float = 1.0) -> Replica:
    return Replica(replica_id, deployment_id, 1, "key", at)


def event(message: str, *, deployment_id: str | None = "d1", replica_id: str | None = None) -> Event:
    return Event(5.0, "replica.ready", message, deployment_id=deployment_id, replica_id=replica_id)


def secret(name: str, value: str = "v", *, at: float = 1.0, project_id: str | None = None) -> Secret:
    return Secret(name, value, at, at, project_id)


def registry(registry_id: str, *, at: float = 1.0, password: str = "p") -> Registry:
    return Registry(registry_id, f"name of {registry_id}", "r.test", "team", "ada", password, at, at, "other")


def messages(events: Sequence[Event]) -> list[str]:
    return [event.message for event in events]


class StoreSuite:
    async def test_projects_are_listed_by_creation(self, store: Store) -> None:
        for project in (Project("b", "second", 2.0), Project("a", "first", 1.0), Project("c", "third", 2.0)):
            await store.put_project(project)
        assert [project.id for project in await store.projects()] == ["a", "b", "c"]

    async def test_putting_a_project_again_renames_it(self, store: Store) -> None:
        await store.put_project(Project("a", "old", 1.0))
        await store.put_project(Project("a", "new", 1.0))
        assert await store.projects() == [Project("a", "new", 1.0)]

    async def test_deleting_a_project_again_is_not_an_error(self, store: Store) -> None:
        await store.put_project(Project("a", "first", 1.0))
        await store.delete_project("a")
        await store.delete_project("a")
        assert await store.projects() == []

    async def test_a_secret_comes_back_to_the_last_field(self, store: Store) -> None:
        whole = Secret("TOKEN", "Größe \N{ROCKET}\n\N{NULL}secret:\u2028", 1.5, 2.5, "p")
        await store.put_secret(whole)
        assert await store.secrets() == [whole]

    async def test_secrets_are_listed_by_creation_then_as_they_came(self, store: Store) -> None:
        for each in (secret("B", at=2.0), secret("A", at=2.0, project_id="p"), secret("C", at=1.0)):
            await store.put_secret(each)
        await store.put_secret(secret("B", "new", at=2.0))
        assert [each.name for each in await store.secrets()] == ["C", "B", "A"]

    async def test_a_name_in_a_project_and_in_the_team_are_two_secrets(self, store: Store) -> None:
        every = [secret("A", "team"), secret("A", "p", project_id="p"), secret("A", "q", project_id="q")]
        for each in every:
            await store.put_secret(each)
        await store.put_secret(replace(every[0], value="team 2", modified_at=7.0))
        await store.put_secret(replace(every[1], value="p 2"))
        assert [each.value for each in await store.secrets()] == ["team 2", "p 2", "q"]
        await store.delete_secret("A", None)
        assert [each.value for each in await store.secrets()] == ["p 2", "q"]
        await store.delete_secret("A", "p")
        await store.delete_secret("A", "p")
        assert await store.secrets() == [every[2]]

    async def test_a_deleted_project_takes_its_secrets_and_no_others(self, store: Store) -> None:
        await store.put_project(Project("p", "project", 1.0))
        for each in (secret("A", project_id="p"), secret("B", project_id="q"), secret("C")):
            await store.put_secret(each)
        await store.delete_project("p")
        assert [each.name for each in await store.secrets()] == ["B", "C"]

    async def test_a_registry_comes_back_to_the_last_field(self, store: Store) -> None:
        whole = Registry("r1", "mine", "https://r.test", "a/b", "ada", "\N{ROCKET} pass", 1.5, 2.5, "gcr")
        nameless = Registry("r2", "other", "r.test:5000", "", "bob", "", 2.0, 2.0)
        for each in (whole, nameless):
            await store.put_registry(each)
        assert await store.registries() == [whole, nameless]

    async def test_registries_are_replaced_by_id_and_listed_by_creation(self, store: Store) -> None:
        for each in (registry("b", at=2.0), registry("a", at=1.0), registry("b", at=2.0, password="new")):
            await store.put_registry(each)
        assert await store.registries() == [registry("a", at=1.0), registry("b", at=2.0, password="new")]

    async def test_deleting_a_registry_again_is_not_an_error(self, store: Store) -> None:
        for name in ("a", "b"):
            await store.put_registry(registry(name))
        await store.delete_registry("a")
        await store.delete_registry("a")
        assert await store.registries() == [registry("b")]

    async def test_a_revision_keeps_the_secrets_image_and_preparation_it_is_applied_with(
        self, store: Store
    ) -> None:
        used = (secret("A", "one"), Secret("B", "\N{ROCKET}", 1.0, 2.0, "p"))
        kept = replace(revision(1), secrets=used, image="r.test/web@sha256:1", prepared_at=4.5)
        await store.apply(deployment(), kept)
        assert await store.revisions("d1") == [kept]

    async def test_secrets_of_a_revision_stay_when_the_secret_changes(self, store: Store) -> None:
        await store.put_secret(secret("A", "old"))
        await store.apply(deployment(), replace(revision(1), secrets=(secret("A", "old"),)))
        await store.put_secret(secret("A", "new"))
        await store.delete_secret("A", None)
        ((found,),) = [each.secrets for each in await store.revisions("d1")]
        assert found.value == "old"

    async def test_apply_keeps_the_deployment_and_the_revision_to_the_last_field(self, store: Store) -> None:
        kept = Deployment("d1", "p", "Größe/\N{ROCKET} \N{NULL}", "web", 1.5, restarts=3, deleted_at=9.25)
        version = Revision("r1", "d1", 1, '{"a": "\u2028"}', 1.5, 2.5, 3.5, "no port", {"x-git-sha": "abc"})
        await store.apply(kept, version)
        assert (await store.deployment("d1"), await store.revisions("d1")) == (kept, [version])

    async def test_apply_of_an_existing_deployment_updates_it_and_appends(self, store: Store) -> None:
        await store.apply(deployment(), revision(1))
        await store.apply(replace(deployment(), name="renamed"), revision(2))
        found = await store.deployment("d1")
        assert found == replace(deployment(), name="renamed")
        assert [each.number for each in await store.revisions("d1")] == [2, 1]

    async def test_the_newest_revisions_can_be_had_alone(self, store: Store) -> None:
        for number in (1, 2, 3):
            await store.apply(deployment(), revision(number))
        assert await store.revisions("d1", limit=2) == [revision(3), revision(2)]

    async def test_apply_may_be_repeated(self, store: Store) -> None:
        await store.apply(deployment(), revision(1))
        await store.apply(deployment(), revision(1))
        assert (await store.deployments(), await store.revisions("d1")) == ([deployment()], [revision(1)])

    async def test_a_refused_revision_leaves_the_deployment_as_it_was(self, store: Store) -> None:
        await store.apply(deployment(), revision(1))
        with pytest.raises(StoreError):
            await store.apply(replace(deployment(), name="changed"), replace(revision(1), id="other"))
        assert (await store.deployments(), await store.revisions("d1")) == ([deployment()], [revision(1)])

    async def test_deployments_are_listed_by_creation_those_being_deleted_too(self, store: Store) -> None:
        for each in (deployment("b", at=2.0), replace(deployment("a", at=1.0), deleted_at=3.0)):
            await store.put_deployment(each)
        assert [each.id for each in await store.deployments()] == ["a", "b"]

    async def test_an_unknown_deployment_is_none_and_has_nothing(self, store: Store) -> None:
        assert await store.deployment("nobody") is None
        assert await store.revisions("nobody") == []
        assert await store.replicas("nobody", finished=True) == []
        assert await store.events("nobody") == []

    async def test_a_deleted_deployment_takes_all_of_its_own_and_nothing_else(self, store: Store) -> None:
        for name in ("d1", "d2"):
            await store.apply(deployment(name), revision(1, deployment_id=name))
            await store.put_replicas([(replica(f"{name}-r", deployment_id=name), {})])
            await store.append([event(name, deployment_id=name)])
        await store.delete_deployment("d1")
        await store.delete_deployment("d1")
        assert [each.id for each in await store.deployments()] == ["d2"]
        assert [await store.revisions("d1"), await store.replicas("d1")] == [[], []]
        assert [each.id for each, _ in await store.replicas()] == ["d2-r"]
        assert messages(await store.events()) == ["d2"]

    async def test_put_revision_changes_what_has_become_of_it_and_nothing_else(self, store: Store) -> None:
        applied = replace(revision(1, document="{}"), secrets=(secret("A"),))
        became = replace(applied, applied_at=7.0, healthy_at=8.0, error="x", image="i@d", prepared_at=6.0)
        await store.apply(deployment(), applied)
        await store.put_revision(replace(became, document="other", secrets=()))
        assert await store.revisions("d1") == [became]

    async def test_put_revision_of_an_unknown_one_keeps_nothing(self, store: Store) -> None:
        await store.put_revision(revision(1))
        assert await store.revisions("d1") == []

    async def test_a_replica_comes_back_to_the_last_field(self, store: Store) -> None:
        whole = Replica(
            "r1", "d1", 4, "key", 1.0, Phase.BACKOFF, 2.0, attempt=3, restarts=2, failures=5,
            started_at=1.1, passed_at=1.2, ready_at=1.3, first_ready_at=1.4, due_at=1.5, drain_until=1.6,
            finished_at=1.7, retired=True, cause=CAUSE,
        )  # fmt: skip
        health = {
            ProbeKind.STARTUP: Health(Verdict.PASSING, 2, ok=True),
            ProbeKind.LIVENESS: Health(Verdict.PASSING),
        }
        await store.put_replicas([(whole, health)])
        assert await store.replicas("d1") == [(whole, health)]

    async def test_results_of_checks_are_not_kept(self, store: Store) -> None:
        health = Health(Verdict.FAILING, 3, ok=False, results=(ProbeResult(1.0, ok=False),))
        await store.put_replicas([(replica("r1"), {ProbeKind.READINESS: health})])
        ((_, found),) = await store.replicas()
        assert found == {ProbeKind.READINESS: Health(Verdict.FAILING, 3, ok=False)}

    async def test_putting_a_replica_again_replaces_it_and_its_health(self, store: Store) -> None:
        await store.put_replicas([(replica("r1"), {ProbeKind.STARTUP: Health(Verdict.UNKNOWN)})])
        ready = replace(replica("r1"), phase=Phase.READY)
        await store.put_replicas([(ready, {})])
        assert await store.replicas() == [(ready, {})]

    async def test_stopped_replicas_are_listed_only_when_asked_for(self, store: Store) -> None:
        stopped = replace(replica("old"), phase=Phase.STOPPED, finished_at=2.0)
        await store.put_replicas([(stopped, {}), (replica("new", at=3.0), {})])
        assert [each.id for each, _ in await store.replicas()] == ["new"]
        assert [each.id for each, _ in await store.replicas("d1", finished=True)] == ["old", "new"]

    async def test_replicas_are_listed_oldest_first_then_as_they_came(self, store: Store) -> None:
        await store.put_replicas(
            [(replica(name, at=at), {}) for name, at in (("c", 2.0), ("a", 2.0), ("b", 1.0))]
        )
        await store.put_replicas([(replica("c", at=2.0), {})])
        assert [each.id for each, _ in await store.replicas()] == ["b", "c", "a"]

    async def test_deleting_a_replica_again_is_not_an_error(self, store: Store) -> None:
        await store.put_replicas([(replica("r1"), {})])
        await store.delete_replica("r1")
        await store.delete_replica("r1")
        assert await store.replicas(finished=True) == []

    async def test_putting_or_appending_nothing_is_not_an_error(self, store: Store) -> None:
        await store.put_replicas([])
        assert await store.append([]) == []

    async def test_events_come_back_with_rising_ids_to_the_last_field(self, store: Store) -> None:
        whole = Event(5.0, "replica.restarted", "\N{ROCKET}", "d1", 2, "r1", 3, Level.WARNING, "error", CAUSE)
        kept = await store.append([whole, event("second")])
        assert [each.id for each in kept] == sorted({each.id for each in kept})
        assert kept[0] == replace(whole, id=kept[0].id)
        assert await store.events() == kept

    async def test_events_are_found_between_two_ids(self, store: Store) -> None:
        ids = [each.id for each in await store.append([event(name) for name in "abcde"])]
        assert messages(await store.events(after=ids[0], before=ids[4])) == ["b", "c", "d"]
        assert messages(await store.events(after=ids[0], limit=2)) == ["b", "c"]
        assert messages(await store.events(before=ids[3], limit=2, newest_first=True)) == ["c", "b"]

    async def test_events_are_found_by_deployment_and_by_replica(self, store: Store) -> None:
        await store.append([
            event("server", deployment_id=None),
            event("first", replica_id="r1"),
            event("second", replica_id="r2"),
            event("other", deployment_id="d2"),
        ])  # fmt: skip
        assert messages(await store.events("d1")) == ["first", "second"]
        assert messages(await store.events("d1", replica_id="r2")) == ["second"]
        assert messages(await store.events()) == ["server", "first", "second", "other"]

    async def test_the_id_of_a_deleted_event_never_comes_back(self, store: Store) -> None:
        (last,) = await store.append([event("gone")])
        await store.delete_deployment("d1")
        (following,) = await store.append([event("new")])
        assert following.id > last.id

    async def test_trimming_keeps_the_newest_of_each_deployment(self, store: Store) -> None:
        for name in ("d1", "d2"):
            await store.put_deployment(deployment(name))
        await store.append(
            [event(f"{name}{n}", deployment_id=name) for n in (1, 2, 3) for name in ("d1", "d2")]
        )
        await store.append([event("server", deployment_id=None)])
        await store.trim_events(2)
        assert messages(await store.events()) == ["d12", "d22", "d13", "d23", "server"]

    async def test_trimming_counts_events_of_gone_deployments_as_of_one(self, store: Store) -> None:
        await store.append([event(name, deployment_id=name) for name in ("gone1", "gone2", "gone3")])
        await store.trim_events(1)
        assert messages(await store.events()) == ["gone3"]

    async def test_calls_that_come_together_are_all_kept_in_their_order(self, store: Store) -> None:
        await asyncio.gather(*(store.append([event(str(n))]) for n in range(200)))
        assert messages(await store.events()) == [str(n) for n in range(200)]

    async def test_a_refused_call_does_not_take_down_those_beside_it(self, store: Store) -> None:
        await store.apply(deployment(), revision(1))
        outcomes = await asyncio.gather(
            store.append([event("before")]),
            store.apply(deployment(), replace(revision(1), id="other")),
            store.append([event("after")]),
            return_exceptions=True,
        )
        assert [isinstance(outcome, StoreError) for outcome in outcomes] == [False, True, False]
        assert messages(await store.events()) == ["before", "after"]
