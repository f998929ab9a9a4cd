"""Connections to container registries, which specs name in `containerRegistry`. Passwords are never shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from hale.api.context import Context
from hale.api.errors import ProblemsError
from hale.api.registry_kinds import problems
from hale.core.image import Registry, credentials
from hale.errors import ConflictError, HaleError, NotFoundError

Fields = Mapping[str, Any]
"""Fields of a Registry by name: texts, as models of requests have them."""


async def find(context: Context, registry_id: str) -> Registry:
    for registry in await context.store.registries():
        if registry.id == registry_id:
            return registry
    raise NotFoundError(f"cannot find container registry {registry_id[:100]!r}: there is none")


async def create(context: Context, fields: Fields) -> Registry:
    async with context.changing:
        now = context.clock.now()
        registry = Registry(id=str(uuid4()), created_at=now, modified_at=now, **fields)
        return await _keep(context, registry)


async def update(context: Context, registry_id: str, fields: Fields) -> Registry:
    """Change the fields that are given; the others, the password too, stay as they are."""
    async with context.changing:
        registry = await find(context, registry_id)
        if not fields:
            return registry
        return await _keep(context, replace(registry, modified_at=context.clock.now(), **fields))


async def delete(context: Context, registry_id: str) -> Registry:
    """Forget it; images that were pulled with it stay here."""
    async with context.changing:
        registry = await find(context, registry_id)
        await context.store.delete_registry(registry.id)
        return registry


async def trouble(context: Context, registry_id: str) -> str | None:
    """Log in to the registry itself; None if it lets us in, else why not."""
    registry = await find(context, registry_id)
    try:
        await context.platform.log_in(credentials(registry))
    except HaleError as error:
        return error.one_line
    return None


async def _keep(context: Context, registry: Registry) -> Registry:
    doing = f"keep container registry {registry.name[:100]!r}"
    if wrong := problems(registry):
        raise ProblemsError(doing, wrong)
    if any(each.name == registry.name for each in await _others(context, registry)):
        raise ConflictError(f"cannot {doing}: there is another one of that name", hint="update that one")
    await context.store.put_registry(registry)
    await _wake(context, registry)
    return registry


async def _wake(context: Context, registry: Registry) -> None:
    """Whoever waits for an image from there tries again at once: a password was corrected, perhaps."""
    for deployment in await context.store.deployments():
        for newest in await context.store.revisions(deployment.id, limit=1):
            named = json.loads(newest.document).get("containerRegistry")
            if newest.prepared_at is None and named in (registry.name, registry.id):
                context.platform.wake(deployment.id)


async def _others(context: Context, registry: Registry) -> Sequence[Registry]:
    return [each for each in await context.store.registries() if each.id != registry.id]
