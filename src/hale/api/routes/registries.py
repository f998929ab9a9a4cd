"""/container-registries: connections that specs name in `containerRegistry`."""

from fastapi import APIRouter

from hale.api import models, registries, views
from hale.api.context import InContext
from hale.api.limits import JsonRoute
from hale.api.paging import InPages, Page, page, part_of
from hale.core.image import Registry

router = APIRouter(prefix="/container-registries", tags=["container registries"], route_class=JsonRoute)


@router.post("")
async def create(context: InContext, body: models.NewRegistry) -> models.Registry:
    return views.registry(await registries.create(context, body.model_dump(exclude_none=True)))


@router.get("", response_model_exclude_unset=True)
async def index(context: InContext, paging: InPages) -> Page[models.Registry]:
    found, following = part_of(await context.store.registries(), paging, _age)
    return page([views.registry(registry) for registry in found], following, paging)


@router.get("/{registry_id}")
async def get(context: InContext, registry_id: str) -> models.Registry:
    return views.registry(await registries.find(context, registry_id))


@router.put("/{registry_id}")
async def update(context: InContext, registry_id: str, body: models.RegistryChange) -> models.Registry:
    """Change what is given; a password that is left out stays."""
    changed = await registries.update(context, registry_id, body.model_dump(exclude_none=True))
    return views.registry(changed)


@router.delete("/{registry_id}")
async def delete(context: InContext, registry_id: str) -> models.Registry:
    """Forget it; images that were pulled with it stay."""
    return views.registry(await registries.delete(context, registry_id))


@router.get("/{registry_id}/test-connection", response_model_exclude_unset=True)
async def test_connection(context: InContext, registry_id: str) -> models.Connection:
    """Log in to the registry itself, with the user and password that are kept."""
    trouble = await registries.trouble(context, registry_id)
    return (
        models.Connection(success=True)
        if trouble is None
        else models.Connection(success=False, error=trouble)
    )


def _age(registry: Registry) -> tuple[float, str]:
    return registry.created_at, registry.id
