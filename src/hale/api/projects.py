"""Projects: folders of deployments. One is always there: `default`."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from hale.api.context import Context
from hale.core.deployment import Deployment, Project
from hale.errors import ConflictError, NotFoundError, RefusedError

DEFAULT = "default"
"""Both id and name of the project that deployments go to when nobody says otherwise."""


async def every(context: Context) -> Sequence[Project]:
    """All of them; the first call on an empty store makes the default one."""
    found = await context.store.projects()
    if any(project.id == DEFAULT for project in found):
        return found
    await context.store.put_project(Project(DEFAULT, DEFAULT, context.clock.now()))
    return await context.store.projects()


async def find(context: Context, project_id: str) -> Project:
    for project in await every(context):
        if project.id == project_id:
            return project
    raise NotFoundError(f"cannot find project {project_id[:100]!r}: there is none")


async def create(context: Context, name: str) -> Project:
    project = Project(str(uuid4()), _named(name), context.clock.now())
    await context.store.put_project(project)
    return project


async def rename(context: Context, project_id: str, name: str) -> Project:
    async with context.changing:
        project = replace(await find(context, project_id), name=_named(name))
        if project.id == DEFAULT and project.name != DEFAULT:
            raise ConflictError(f"cannot rename project {DEFAULT}: it is where deployments go by default")
        await context.store.put_project(project)
    return project


async def delete(context: Context, project_id: str) -> Project:
    """Forget an empty project."""
    async with context.changing:
        project = await find(context, project_id)
        doing = f"cannot delete project {project.name}"
        if project.id == DEFAULT:
            raise ConflictError(f"{doing}: it is where deployments go by default")
        if inside := await deployments(context, project.id):
            names = ", ".join(deployment.name for deployment in inside[:5])
            raise ConflictError(
                f"{doing}: it holds {len(inside)} deployments ({names})", hint="delete them first"
            )
        await context.store.delete_project(project.id)
    return project


async def deployments(context: Context, project_id: str) -> Sequence[Deployment]:
    """Those of the project that are not being deleted."""
    return [
        deployment
        for deployment in await context.store.deployments()
        if deployment.project_id == project_id and deployment.deleted_at is None
    ]


def _named(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise RefusedError("name: it must be printable text")
    return name
