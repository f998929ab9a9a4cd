"""What the controller holds of deployments and replicas in memory."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hale.core.deployment import Deployment, Desired, Revision, Template
from hale.core.lifecycle import Facts, Run
from hale.core.probe import Health, ProbeKind
from hale.core.reconcile import Marks
from hale.core.replica import RUNNING, Phase, Replica
from hale.ports import Instance, Route, Server


def server_id(replica: Replica) -> str:
    """The balancer's name for this attempt: a new attempt is another place."""
    return f"{replica.id}.{replica.attempt}"


@dataclass(slots=True)
class Managed:
    """One deployment: what is wanted of it by its newest revision, and its replicas, those that ended too.

    `written` are the keys of volumes that its replicas may have written to, of whatever revision. `password`
    is that of the revision in force: while the newest is not prepared, what serves on is protected as before.
    `noted` is what was told of how replicas are started, and of which revision last.
    """

    deployment: Deployment
    newest: Revision
    desired: Desired
    marks: Marks
    templates: dict[str, Template] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    written: frozenset[str] = frozenset()
    password: str | None = field(default=None, repr=False)
    noted: dict[str, int] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    serving: bool = False

    def used_volumes(self, lives: Callable[[Replica], bool]) -> frozenset[str]:
        """The keys of those that the newest revision names, or a replica that lives, or that were written to.

        What replicas wrote is nowhere else: it stays until the deployment goes.
        """
        used = [self.desired.template, *(self.template(r) for r in self.replicas.values() if lives(r))]
        return self.written.union(source.key for template in used for source in template.sources)

    def template(self, replica: Replica) -> Template:
        return self.templates[replica.template]


@dataclass(slots=True)
class World:
    """Everything known: deployments, whose replica is whose, what the engine said last, outcomes of actions.

    `refused` is why an attempt could not be started, `drained` are attempts without requests under way,
    `troubles` what was told of a replica's actions last. `ended` are servers that the engine said have ended
    and that it was not asked about since.
    """

    managed: dict[str, Managed] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    refused: dict[tuple[str, int], str] = field(default_factory=dict)
    drained: set[tuple[str, int]] = field(default_factory=set)
    troubles: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)

    def over(self, managed: Managed) -> bool:
        """Not one replica is left that is not over, and none that runs all the same."""
        return not any(map(self.lives, managed.replicas.values()))

    def lives(self, replica: Replica) -> bool:
        """It is not over, or runs all the same."""
        return replica.phase is not Phase.STOPPED or self._runs(replica)

    def _runs(self, replica: Replica) -> bool:
        instance = self.instances.get(replica.id)
        return instance is not None and instance.running

    def take_on(self, managed: Managed) -> None:
        self.managed[managed.deployment.id] = managed
        self.owners.update(dict.fromkeys(managed.replicas, managed.deployment.id))

    def find(self, replica_id: str) -> tuple[Managed, Replica] | None:
        managed = self.managed.get(self.owners.get(replica_id, ""))
        replica = managed.replicas.get(replica_id) if managed else None
        return (managed, replica) if managed and replica else None

    def instance(self, replica: Replica) -> Instance | None:
        """Where this attempt of the replica runs, if it does."""
        instance = self.instances.get(replica.id)
        return instance if instance is not None and instance.attempt == replica.attempt else None

    def facts(self, replica: Replica, health: Mapping[ProbeKind, Health]) -> Facts:
        instance = self.instances.get(replica.id)
        run = None
        if instance is not None:
            run = Run(
                instance.attempt,
                instance.started_at,
                instance.exited_at,
                instance.exit_code,
                instance.out_of_memory,
                instance.removed,
            )
        key = (replica.id, replica.attempt)
        return Facts(run, self.refused.get(key), health, drained=key in self.drained)

    def forget(self, replica_id: str) -> None:
        """Drop what is known of a replica that is no more."""
        owner = self.managed.get(self.owners.pop(replica_id, ""))
        if owner is not None:
            owner.replicas.pop(replica_id, None)
        self.instances.pop(replica_id, None)
        self.settle_outcomes(replica_id)

    def settle_outcomes(self, replica_id: str) -> None:
        """Outcomes of attempts that are over say nothing about the next."""
        self.refused = {key: why for key, why in self.refused.items() if key[0] != replica_id}
        self.drained = {key for key in self.drained if key[0] != replica_id}
        self.troubles.pop(replica_id, None)

    def servers(self, managed: Managed) -> Sequence[Server]:
        """The places of the deployment's replicas that run, with traffic or without."""
        servers = []
        for replica in managed.replicas.values():
            instance = self.instance(replica)
            if replica.phase in RUNNING and instance is not None and instance.ports:
                port = next(iter(instance.ports.values()))
                name = server_id(replica)
                ready = replica.phase is Phase.READY and name not in self.ended
                servers.append(Server(name, instance.address, port, ready))
        return servers

    def route(self, managed: Managed, hosts: tuple[str, ...]) -> Route:
        return Route(managed.deployment.id, hosts, tuple(self.servers(managed)), managed.password)
