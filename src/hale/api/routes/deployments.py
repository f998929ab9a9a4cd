"""/deployments: Gradient's routes, and what hale can do beside them."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from hale.api import deployments, models, specs, views
from hale.api.context import Context, InContext
from hale.api.limits import JsonRoute
from hale.api.logs import log_page
from hale.api.paging import InPages, Page, Paging, page, part_of
from hale.api.runs import runs
from hale.core.deployment import Deployment, Revision
from hale.errors import NotFoundError, RefusedError

router = APIRouter(prefix="/deployments", tags=["deployments"], route_class=JsonRoute)

Metric = Literal[
    "requests_total",
    "cpu",
    "memory",
    "gpu",
    "requests_per_second",
    "requests_duration_seconds_1m",
    "requests_duration_seconds_5m",
]
Timeframe = Literal["hour", "12_hours", "day", "1_week", "2_weeks"]


@router.post("")
async def upsert(context: InContext, body: models.Upsert, request: Request) -> models.Upserted:
    """Create the deployment, or update it: by `deploymentId`, else by project and name."""
    metadata = views.git_headers(request.headers)
    wanted = deployments.Request(body.project_id, body.config, body.deployment_id, metadata)
    made = await deployments.upsert(context, wanted)
    return models.Upserted(deployment_id=made.deployment.id)


@router.get("", response_model_exclude_unset=True)
async def index(context: InContext, paging: InPages, name: str | None = None) -> Page[models.Deployment]:
    return await deployments_page(context, paging, await deployments.every(context), name)


@router.get("/{deployment_id}")
async def get(context: InContext, deployment_id: str) -> models.Deployment:
    return await _shown(context, await deployments.find(context, deployment_id))


@router.patch("/{deployment_id}")
async def change(context: InContext, deployment_id: str, body: models.Change) -> models.Changed:
    """Scale, or switch on or off: a new revision with the rest of the spec as it is."""
    changed = await deployments.change(context, deployment_id, replicas=body.replicas, enabled=body.enabled)
    return _changed(changed)


@router.delete("/{deployment_id}")
async def delete(context: InContext, deployment_id: str) -> models.Deleted:
    """Finish what is under way, then stop and forget it."""
    return models.Deleted(id=(await deployments.delete(context, deployment_id)).id)


@router.post("/{deployment_id}/restart")
async def restart(context: InContext, deployment_id: str) -> models.Changed:
    """Replace every replica, as a rollout does."""
    return _changed(await deployments.restart(context, deployment_id))


@router.post("/{deployment_id}/rollback")
async def rollback(
    context: InContext, deployment_id: str, body: models.Rollback | None = None
) -> models.RolledBack:
    """Apply the spec of an earlier revision again, as a new revision."""
    now, like = await deployments.rollback(context, deployment_id, body.revision if body else None)
    return models.RolledBack(**_changed(now).model_dump(), like=like.number)


@router.get("/{deployment_id}/spec")
async def spec(context: InContext, deployment_id: str) -> models.JsonObject:
    """The whole newest spec, hale's own settings included."""
    found = await deployments.current(context, await deployments.find(context, deployment_id))
    return specs.shown_whole(found.revision)


@router.get("/{deployment_id}/health")
async def health(context: InContext, deployment_id: str) -> models.Health:
    """What the newest revision waits for, and every replica: its phase, its checks, what happens next."""
    deployment = await deployments.find(context, deployment_id)
    now = await deployments.current(context, deployment)
    return models.Health(
        deployment_id=deployment.id,
        name=deployment.name,
        revision=now.revision.number,
        endpoint=context.platform.endpoint(deployment),
        preparation=views.preparation(context.platform.preparation(deployment.id)),
        replicas=[views.replica(seen) for seen in await context.platform.observe(deployment.id)],
    )


@router.get("/{deployment_id}/runs")
async def index_runs(
    context: InContext, deployment_id: str, limit: Annotated[int, Query(ge=1)] = 10
) -> list[models.Run]:
    """The active runs, newest first."""
    return await runs(context, await deployments.find(context, deployment_id), limit)


@router.get("/{deployment_id}/history", response_model_exclude_unset=True)
async def history(context: InContext, deployment_id: str, paging: InPages) -> Page[models.HistoricSpec]:
    """Every spec that was applied."""
    deployment = await deployments.find(context, deployment_id)
    found, following = part_of(await context.store.revisions(deployment.id), paging, _age_of_revision)
    return page([views.historic_spec(revision) for revision in found], following, paging)


@router.get("/{deployment_id}/revisions", response_model_exclude_unset=True)
async def revisions(context: InContext, deployment_id: str, paging: InPages) -> Page[models.Revision]:
    """Every revision by its number, with what has become of it."""
    deployment = await deployments.find(context, deployment_id)
    every = await context.store.revisions(deployment.id)
    found, following = part_of(every, paging, _age_of_revision)
    return page([views.revision(each, current=each is every[0]) for each in found], following, paging)


@router.get("/{deployment_id}/logs", response_model_exclude_unset=True)
async def logs(
    context: InContext,
    deployment_id: str,
    paging: InPages,
    instance_id: Annotated[str | None, Query(alias="instanceId")] = None,
) -> Page[models.LogItem]:
    """What the replicas wrote. To follow, send the ids of the last line of each instance as `after`."""
    return await log_page(context, await deployments.find(context, deployment_id), paging, instance_id)


@router.get("/{deployment_id}/metrics")
async def metrics(
    context: InContext, deployment_id: str, metric: Metric, timeframe: Timeframe | None = None
) -> models.JsonObject:
    """Refused: this version of hale does not measure it."""
    deployment = await deployments.find(context, deployment_id)
    span = f" over {timeframe}" if timeframe else ""
    raise RefusedError(
        f"cannot show {metric}{span} of {deployment.name}: this version of hale does not measure it"
    )


async def deployments_page(
    context: Context, paging: Paging, every: Sequence[Deployment], name: str | None
) -> Page[models.Deployment]:
    """The part of these deployments that is asked for, by name if one is given."""
    wanted = [deployment for deployment in every if name in (None, deployment.name)]
    found, following = part_of(wanted, paging, _age_of_deployment)
    shown = []
    for deployment in found:
        with suppress(NotFoundError):  # gone since the list was made
            shown.append(await _shown(context, deployment))
    return page(shown, following, paging)


async def _shown(context: Context, deployment: Deployment) -> models.Deployment:
    now = await deployments.current(context, deployment)
    return views.deployment(deployment, now.revision, context.platform.endpoint(deployment))


def _changed(now: deployments.Current) -> models.Changed:
    return models.Changed(deployment_id=now.deployment.id, revision=now.revision.number, id=now.revision.id)


def _age_of_deployment(deployment: Deployment) -> tuple[float, str]:
    return deployment.created_at, deployment.id


def _age_of_revision(revision: Revision) -> tuple[float, str]:
    return revision.number, revision.id
