"""What can be done with deployments, as functions over Store and Platform; routes only translate.

Whatever changes what is desired does so alone (`Context.changing`): two requests that apply one
name at the same time make one deployment with two revisions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from hale.api import projects, resolving, specs
from hale.api.context import Context
from hale.api.models import JsonObject
from hale.api.resolving import Means
from hale.core.deployment import Deployment, Revision
from hale.core.event import Event, Level
from hale.errors import ConflictError, NotFoundError, RefusedError
from hale.spec import compile as compiled
from hale.spec import load, naming
from hale.spec.schema import Spec


@dataclass(frozen=True, slots=True)
class Current:
    """A deployment and its newest revision: what is desired of it."""

    deployment: Deployment
    revision: Revision


@dataclass(frozen=True, slots=True)
class Request:
    """What an upsert brings: the spec as it came, where it goes, and the git headers."""

    project_id: str
    config: JsonObject
    deployment_id: str | None = None
    metadata: Mapping[str, str] | None = None


async def every(context: Context) -> Sequence[Deployment]:
    """All that are not being deleted."""
    return [each for each in await context.store.deployments() if each.deleted_at is None]


async def find(context: Context, deployment_id: str) -> Deployment:
    """The deployment; one that is being deleted is gone for everybody who asks."""
    deployment = await context.store.deployment(deployment_id)
    if deployment is None or deployment.deleted_at is not None:
        raise _unknown(deployment_id)
    return deployment


async def current(context: Context, deployment: Deployment) -> Current:
    """The deployment with its newest revision; NotFoundError if it has gone away meanwhile."""
    newest = await context.store.revisions(deployment.id, limit=1)
    if not newest:
        raise _unknown(deployment.id)
    return Current(deployment, newest[0])


def _unknown(deployment_id: str) -> NotFoundError:
    return NotFoundError(f"cannot find deployment {deployment_id[:100]!r}: there is none")


async def upsert(context: Context, request: Request) -> Current:
    """Create the deployment or give it a new revision."""
    async with context.changing:
        before = await _meant(context, request)
        spec = load.from_body(specs.resubmitted(request.config, before.revision if before else None))
        if before is None:
            return await _create(context, request, spec)
        now = replace(before, deployment=await _renamed(context, before.deployment, spec.name))
        means = await resolving.resolved(context, request.project_id, spec)
        return await _revise(context, now, spec, means, metadata=request.metadata)


async def change(
    context: Context, deployment_id: str, *, replicas: int | None, enabled: bool | None
) -> Current:
    """A new revision with another number of replicas, or switched on or off."""
    if replicas is None and enabled is None:
        raise RefusedError(
            "cannot change the deployment: nothing to change is given", hint="send replicas or enabled"
        )
    async with context.changing:
        now = await current(context, await find(context, deployment_id))
        spec = specs.spec_of(now.revision.document).changed(replicas=replicas, enabled=enabled)
        return await _revise(context, now, spec, resolving.kept(now.revision))


async def rollback(
    context: Context, deployment_id: str, wanted: int | str | None
) -> tuple[Current, Revision]:
    """A new revision with the spec of an earlier one: the last that did not fail, unless another is named.

    It runs the image that the earlier one ran, with the secrets as they are now. The second of what is
    returned is that earlier one.
    """
    async with context.changing:
        deployment = await find(context, deployment_id)
        newest, *earlier = await context.store.revisions(deployment.id)
        target = _target(deployment, newest, earlier, wanted)
        spec = specs.spec_of(target.document)
        means = await resolving.resolved(
            context,
            deployment.project_id,
            spec,
            image=target.image,
            doing=f"roll {deployment.name} back to revision {target.number}",
        )
        now = await _revise(context, Current(deployment, newest), spec, means, like=target.number)
        return now, target


async def restart(context: Context, deployment_id: str) -> Current:
    """Replace every replica by a new one of the same revision, as a rollout does."""
    async with context.changing:
        deployment = await find(context, deployment_id)
        deployment = replace(deployment, restarts=deployment.restarts + 1)
        await context.store.put_deployment(deployment)
        now = await current(context, deployment)
        told = _event(context, now, "deployment.restarted", "a restart of all replicas was asked for")
        await _tell(context, deployment, [told])
        return now


async def delete(context: Context, deployment_id: str) -> Deployment:
    """Mark it; its replicas finish their requests, then the platform forgets it."""
    async with context.changing:
        deployment = replace(await find(context, deployment_id), deleted_at=context.clock.now())
        await context.store.put_deployment(deployment)
        now = await current(context, deployment)
        await _tell(
            context, deployment, [_event(context, now, "deployment.deleted", "its end was asked for")]
        )
        return deployment


async def _meant(context: Context, request: Request) -> Current | None:
    """The deployment that the request names: by its id, else by project and name."""
    project = await projects.find(context, request.project_id)
    if request.deployment_id is None:
        name = request.config.get("name")
        return await _meant_by_name(context, project.id, name) if isinstance(name, str) else None
    deployment = await find(context, request.deployment_id)
    if deployment.project_id != project.id:
        raise NotFoundError(f"cannot find deployment {deployment.id!r} in project {project.name}")
    return await current(context, deployment)


async def _meant_by_name(context: Context, project_id: str, name: str) -> Current | None:
    for deployment in await projects.deployments(context, project_id):
        if deployment.name == name:
            return await current(context, deployment)
    return None


async def _renamed(context: Context, deployment: Deployment, name: str) -> Deployment:
    """The deployment under the name of its new spec; its slug stays."""
    if name != deployment.name and await _meant_by_name(context, deployment.project_id, name):
        raise ConflictError(
            f"cannot rename {deployment.name} to {name}: there is another deployment of that name"
        )
    return replace(deployment, name=name)


async def _create(context: Context, request: Request, spec: Spec) -> Current:
    means = await resolving.resolved(context, request.project_id, spec)
    now = context.clock.now()
    # One that is still going away keeps its slug, and with it its traffic.
    # The name of one that is being deleted is free: its traffic has only its id any more.
    taken = {each.slug for each in await context.store.deployments() if each.deleted_at is None}
    deployment = Deployment(str(uuid4()), request.project_id, spec.name, naming.slug(spec.name, taken), now)
    revision = _revision(deployment, 1, spec, means, now, request.metadata)
    await context.store.apply(deployment, revision)
    made = Current(deployment, revision)
    created = _event(context, made, "deployment.created", f"created with {_size(spec)}")
    notes = resolving.notes(context, spec, means.secrets)
    await _tell(context, deployment, [created, *_notes(context, made, notes)])
    return made


async def _revise(
    context: Context,
    before: Current,
    spec: Spec,
    means: Means,
    *,
    metadata: Mapping[str, str] | None = None,
    like: int | None = None,
) -> Current:
    """Append a revision and tell of it."""
    number = before.revision.number + 1
    revision = _revision(before.deployment, number, spec, means, context.clock.now(), metadata)
    await context.store.apply(before.deployment, revision)
    now = Current(before.deployment, revision)
    origin = "" if like is None else f", back to the spec of revision {like}"
    created = _event(
        context, now, "revision.created", f"revision {number} was applied{origin}: {_size(spec)}"
    )
    known = resolving.notes(context, specs.spec_of(before.revision.document), before.revision.secrets)
    notes = [note for note in resolving.notes(context, spec, means.secrets) if note not in known]
    await _tell(context, now.deployment, [created, *_notes(context, now, notes)])
    return now


def _revision(
    deployment: Deployment,
    number: int,
    spec: Spec,
    means: Means,
    now: float,
    metadata: Mapping[str, str] | None,
) -> Revision:
    return Revision(
        str(uuid4()),
        deployment.id,
        number,
        spec.document(),
        now,
        metadata=metadata or {},
        secrets=means.secrets,
        image=means.image,
        prepared_at=means.prepared_at,
    )


def _target(
    deployment: Deployment, newest: Revision, earlier: Sequence[Revision], wanted: int | str | None
) -> Revision:
    doing = f"cannot roll {deployment.name} back"
    if wanted is None and earlier:
        # What failed, or was never begun with, is nothing to go back to, though somebody scaled it since.
        good = (each for each in earlier if each.error is None and each.applied_at is not None)
        return next(good, earlier[0])
    if wanted is None:
        raise RefusedError(
            f"{doing}: revision {newest.number} is its only one", hint="apply a spec that is right"
        )
    if str(wanted) in (str(newest.number), newest.id):
        raise RefusedError(
            f"{doing} to revision {newest.number}: that is the current one", hint=_history(deployment)
        )
    for revision in earlier:
        if str(wanted) in (str(revision.number), revision.id):
            return revision
    raise NotFoundError(f"{doing} to revision {str(wanted)[:100]}: there is none", hint=_history(deployment))


def _history(deployment: Deployment) -> str:
    return f"`hale history {deployment.name}` shows its revisions"


def _notes(context: Context, now: Current, notes: Sequence[str]) -> list[Event]:
    """What the person who applied it should know."""
    return [_event(context, now, "revision.note", note, level=Level.WARNING) for note in notes]


def _event(context: Context, now: Current, kind: str, message: str, *, level: Level = Level.NORMAL) -> Event:
    return Event(context.clock.now(), kind, message, now.deployment.id, now.revision.number, level=level)


async def _tell(context: Context, deployment: Deployment, events: Sequence[Event]) -> None:
    """Keep the events and wake the platform; it is woken whether they could be kept or not."""
    try:
        await context.store.append(events)
    finally:
        context.platform.wake(deployment.id)


def _size(spec: Spec) -> str:
    if spec.enabled is False:
        return "disabled"
    count = compiled.replicas(spec)
    return "1 replica" if count == 1 else f"{count} replicas"
