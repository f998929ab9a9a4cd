"""Runs: the replicas of a deployment by the revision they belong to, as Gradient's clients count them."""

from collections.abc import Sequence

from hale.api import models, specs, views
from hale.api.context import Context
from hale.core.deployment import Deployment, Revision
from hale.core.replica import LEAVING, Phase, Replica
from hale.spec import compile as compiled

_HISTORY = 200
"""Events of a replica that are looked through for changes of its state."""


async def runs(context: Context, deployment: Deployment, limit: int) -> list[models.Run]:
    """The active ones, newest first: the current one if it wants replicas, and those that still have some."""
    every = await context.store.revisions(deployment.id)
    known = [replica for replica, _ in await context.store.replicas(deployment.id, finished=True)]
    seen = {each.replica.id: each.replica for each in await context.platform.observe(deployment.id)}
    replicas = [seen.get(replica.id, replica) for replica in known]
    groups = _by_revision(replicas, every)
    found = []
    for revision in every:
        own = groups.get(revision.number, [])
        wanted = compiled.replicas(specs.spec_of(revision.document)) if revision is every[0] else 0
        if wanted or any(replica.phase is not Phase.STOPPED for replica in own):
            found.append(await _run(context, revision, wanted, own))
    return found[:limit]


def _by_revision(replicas: Sequence[Replica], revisions: Sequence[Revision]) -> dict[int, list[Replica]]:
    """Replicas by the newest revision that runs them: one that only scaled keeps those of the one before."""
    belongs: dict[int, int] = {}
    keys: dict[str, int] = {}
    numbers = {replica.revision for replica in replicas}
    for revision in revisions:
        if revision.number in numbers or revision is revisions[0]:
            key = specs.template_key(revision)
            belongs[revision.number] = keys.setdefault(key, revision.number)
    groups: dict[int, list[Replica]] = {}
    for replica in replicas:
        groups.setdefault(belongs.get(replica.revision, replica.revision), []).append(replica)
    return groups


async def _run(context: Context, revision: Revision, wanted: int, replicas: Sequence[Replica]) -> models.Run:
    staying = [replica for replica in replicas if not replica.retired and replica.phase not in LEAVING]
    return models.Run(
        id=revision.id,
        replicas=wanted,
        ready_replicas=sum(replica.phase is Phase.READY for replica in staying),
        available_replicas=sum(replica.phase is Phase.UNREADY for replica in staying),
        instances=[await _instance(context, replica) for replica in replicas],
    )


async def _instance(context: Context, replica: Replica) -> models.Instance:
    newest = await context.store.events(
        replica.deployment_id, replica_id=replica.id, limit=_HISTORY, newest_first=True
    )
    return views.instance(replica, newest[::-1])
