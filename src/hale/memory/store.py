"""MemoryStore: the Store of tests, without a disk."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Event
from hale.core.image import Registry
from hale.core.probe import Health, ProbeKind
from hale.core.replica import Phase, Replica
from hale.core.secret import Secret
from hale.errors import StoreError

K = TypeVar("K")
V = TypeVar("V")
State = tuple[Replica, Mapping[ProbeKind, Health]]


class MemoryStore:
    """The Store in dictionaries; passes the same suite as SqliteStore."""

    def __init__(self) -> None:
        self._projects: dict[str, Project] = {}
        self._secrets: dict[tuple[str | None, str], Secret] = {}
        self._registries: dict[str, Registry] = {}
        self._deployments: dict[str, Deployment] = {}
        self._revisions: dict[str, Revision] = {}
        self._replicas: dict[str, State] = {}
        self._events: dict[int, Event] = {}
        self._last_event = 0

    async def projects(self) -> Sequence[Project]:
        return sorted(self._projects.values(), key=lambda project: project.created_at)

    async def put_project(self, project: Project) -> None:
        self._projects[project.id] = project

    async def delete_project(self, project_id: str) -> None:
        self._projects.pop(project_id, None)
        _drop(self._secrets, (key for key in self._secrets if key[0] == project_id))

    async def secrets(self) -> Sequence[Secret]:
        return sorted(self._secrets.values(), key=lambda secret: secret.created_at)

    async def put_secret(self, secret: Secret) -> None:
        self._secrets[secret.project_id, secret.name] = secret

    async def delete_secret(self, name: str, project_id: str | None) -> None:
        self._secrets.pop((project_id, name), None)

    async def registries(self) -> Sequence[Registry]:
        return sorted(self._registries.values(), key=lambda registry: registry.created_at)

    async def put_registry(self, registry: Registry) -> None:
        self._registries[registry.id] = registry

    async def delete_registry(self, registry_id: str) -> None:
        self._registries.pop(registry_id, None)

    async def apply(self, deployment: Deployment, revision: Revision) -> None:
        for other in self._revisions.values():
            same_place = (other.deployment_id, other.number) == (revision.deployment_id, revision.number)
            if same_place and other.id != revision.id:
                raise StoreError(f"cannot keep revision {revision.number}: there is one of that number")
        self._deployments[deployment.id] = deployment
        self._revisions[revision.id] = revision

    async def put_deployment(self, deployment: Deployment) -> None:
        self._deployments[deployment.id] = deployment

    async def deployment(self, deployment_id: str) -> Deployment | None:
        return self._deployments.get(deployment_id)

    async def deployments(self) -> Sequence[Deployment]:
        return sorted(self._deployments.values(), key=lambda deployment: deployment.created_at)

    async def delete_deployment(self, deployment_id: str) -> None:
        self._deployments.pop(deployment_id, None)
        _drop(
            self._revisions, (key for key, r in self._revisions.items() if r.deployment_id == deployment_id)
        )
        _drop(
            self._replicas,
            (key for key, (r, _) in self._replicas.items() if r.deployment_id == deployment_id),
        )
        _drop(self._events, (key for key, e in self._events.items() if e.deployment_id == deployment_id))

    async def put_revision(self, revision: Revision) -> None:
        if known := self._revisions.get(revision.id):
            self._revisions[revision.id] = replace(
                known,
                applied_at=revision.applied_at,
                healthy_at=revision.healthy_at,
                error=revision.error,
                image=revision.image,
                prepared_at=revision.prepared_at,
            )

    async def revisions(self, deployment_id: str, *, limit: int | None = None) -> Sequence[Revision]:
        own = (revision for revision in self._revisions.values() if revision.deployment_id == deployment_id)
        return sorted(own, key=lambda revision: revision.number, reverse=True)[:limit]

    async def put_replicas(self, states: Sequence[State]) -> None:
        for replica, health in states:
            kept = {kind: replace(known, results=()) for kind, known in health.items()}
            self._replicas[replica.id] = (replica, kept)

    async def replicas(self, deployment_id: str | None = None, *, finished: bool = False) -> Sequence[State]:
        found = (
            (replica, health)
            for replica, health in self._replicas.values()
            if deployment_id in (None, replica.deployment_id)
            and (finished or replica.phase is not Phase.STOPPED)
        )
        return sorted(found, key=lambda state: state[0].created_at)

    async def delete_replica(self, replica_id: str) -> None:
        self._replicas.pop(replica_id, None)

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        kept = [replace(event, id=self._last_event + n) for n, event in enumerate(events, 1)]
        self._events.update((event.id, event) for event in kept)
        self._last_event += len(kept)
        return kept

    async def events(
        self,
        deployment_id: str | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        replica_id: str | None = None,
        limit: int = 1000,
        newest_first: bool = False,
    ) -> Sequence[Event]:
        found = (
            event
            for event in sorted(self._events.values(), key=lambda event: event.id, reverse=newest_first)
            if after < event.id
            and (before is None or event.id < before)
            and deployment_id in (None, event.deployment_id)
            and replica_id in (None, event.replica_id)
        )
        return list(islice(found, limit))

    async def trim_events(self, keep: int) -> None:
        groups: dict[str | None, list[int]] = {}
        for event in sorted(self._events.values(), key=lambda event: event.id, reverse=True):
            group = event.deployment_id if event.deployment_id in self._deployments else None
            groups.setdefault(group, []).append(event.id)
        _drop(self._events, (event_id for ids in groups.values() for event_id in ids[keep:]))


def _drop(table: dict[K, V], keys: Iterable[K]) -> None:
    for key in list(keys):
        del table[key]
