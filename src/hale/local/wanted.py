"""Reads what is wanted of deployments, and what their replicas are made of."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hale.core.deployment import Deployment, Revision, Template
from hale.core.probe import Health, ProbeKind
from hale.core.reconcile import Marks
from hale.core.replica import Phase, Replica
from hale.local.desired import Compiler
from hale.local.managed import Managed
from hale.ports import Store

log = logging.getLogger(__name__)

State = tuple[Replica, Mapping[ProbeKind, Health]]


class Wanted:
    """Keeps `Managed` as the Store has it; progress is waited for from `not_before` on."""

    def __init__(self, store: Store, compiler: Compiler) -> None:
        self._store = store
        self._compiler = compiler
        self.not_before = 0.0

    async def take_on(self, deployment: Deployment, newest: Revision) -> tuple[Managed, Sequence[State]]:
        """The deployment with all the replicas that the Store knows of it."""
        states = await self._store.replicas(deployment.id, finished=True)
        desired = self._compiler.desired(deployment, newest, not_before=self.not_before)
        managed = Managed(deployment, newest, desired, _marks(newest))
        managed.replicas = {replica.id: replica for replica, _ in states}
        managed.serving = any(replica.phase is Phase.READY for replica, _ in states)
        managed.templates = {desired.template.key: desired.template}
        revisions = await self._store.revisions(deployment.id)
        managed.written = self._compiler.written(revisions)
        applied = (each for each in revisions if each.applied_at is not None)
        in_force = newest if desired.prepared else next(applied, newest)
        managed.password = self._compiler.password(in_force)
        await self.load_templates(managed)
        return managed, states

    def renew(self, managed: Managed, deployment: Deployment, newest: Revision) -> None:
        """What is wanted is another, or known better; what the Store was not told yet is not forgotten."""
        if managed.newest.number != newest.number:
            managed.marks = _marks(newest)
        elif newest.prepared_at is None:
            newest = replace(newest, image=managed.newest.image, prepared_at=managed.newest.prepared_at)
        desired = self._compiler.desired(deployment, newest, not_before=self.not_before)
        managed.deployment, managed.newest, managed.desired = deployment, newest, desired
        if desired.prepared:
            managed.password = desired.password
        managed.written |= self._compiler.written([newest])
        used = {replica.template for replica in managed.replicas.values()}
        managed.templates = {key: kept for key, kept in managed.templates.items() if key in used}
        managed.templates[desired.template.key] = desired.template

    async def load_templates(self, managed: Managed) -> None:
        missing = {replica.template for replica in managed.replicas.values()} - managed.templates.keys()
        if not missing:
            return
        revisions = await self._store.revisions(managed.deployment.id)
        managed.templates.update(self._compiler.templates(revisions, sorted(missing)))
        for replica in managed.replicas.values():
            if replica.template not in managed.templates:
                # Another hale wrote the key: what its revision says now is nearest to what it was.
                log.warning(
                    "deployment %s: no revision has template %s", replica.deployment_id, replica.template
                )
                nearest = self._compiler.template(revisions, replica) or Template(replica.template)
                managed.templates[replica.template] = nearest


def _marks(revision: Revision) -> Marks:
    return Marks(revision.applied_at, revision.healthy_at, revision.error)
