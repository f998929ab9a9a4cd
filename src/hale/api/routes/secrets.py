"""/projects/{id}/secrets and /teams/{id}/secrets: the same five routes. Values go in and never come out."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from hale.api import models, projects, secrets, views
from hale.api.context import InContext
from hale.api.limits import JsonRoute
from hale.api.paging import InPages, Page, page, part_of
from hale.core.secret import Secret
from hale.errors import NotFoundError


async def _project(context: InContext, owner_id: str) -> str:
    return (await projects.find(context, owner_id)).id


async def _team(owner_id: str) -> None:
    if owner_id != views.OWNER:
        raise NotFoundError(
            f"cannot find team {owner_id[:100]!r}: there is one team only", hint=f"it is called {views.OWNER}"
        )


def _routes(owners: str, owner: Callable[..., Any]) -> APIRouter:
    """The routes under one kind of owner; `owner` answers its project id, None for the team."""
    router = APIRouter(prefix=f"/{owners}/{{owner_id}}/secrets", tags=["secrets"], route_class=JsonRoute)
    Owner = Annotated[str | None, Depends(owner)]  # noqa: N806  a type

    @router.post("")
    async def create(context: InContext, owner: Owner, body: models.NewSecret) -> models.Secret:
        return views.secret(await secrets.create(context, owner, body.name, body.value))

    @router.get("", response_model_exclude_unset=True)
    async def index(context: InContext, owner: Owner, paging: InPages) -> Page[models.UsedSecret]:
        found, following = part_of(await secrets.every(context, owner), paging, _age)
        return page(await _used(context, found), following, paging)

    @router.get("/{name}")
    async def get(context: InContext, owner: Owner, name: str) -> models.UsedSecret:
        (shown,) = await _used(context, [await secrets.find(context, owner, name)])
        return shown

    @router.patch("/{name}")
    async def update(context: InContext, owner: Owner, name: str, body: models.SecretValue) -> models.Secret:
        """Another value; deployments get it when they are applied again."""
        return views.secret(await secrets.update(context, owner, name, body.value))

    @router.delete("/{name}")
    async def delete(context: InContext, owner: Owner, name: str) -> models.DeletedSecret:
        """Forget it; deployments that were applied with it keep what they have."""
        return models.DeletedSecret(name=(await secrets.delete(context, owner, name)).name)

    return router


async def _used(context: InContext, found: list[Secret]) -> list[models.UsedSecret]:
    attached = await secrets.attached(context)
    return [views.used_secret(each, attached=(each.project_id, each.name) in attached) for each in found]


def _age(secret: Secret) -> tuple[float, str]:
    return secret.created_at, secret.name


of_projects = _routes("projects", _project)
of_teams = _routes("teams", _team)
