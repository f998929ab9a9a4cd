"""/projects."""

from fastapi import APIRouter

from hale.api import models, projects, views
from hale.api.context import InContext
from hale.api.limits import JsonRoute
from hale.api.paging import InPages, Page, page, part_of
from hale.api.routes.deployments import deployments_page
from hale.core.deployment import Project

router = APIRouter(prefix="/projects", tags=["projects"], route_class=JsonRoute)


@router.post("")
async def create(context: InContext, body: models.NewProject) -> models.Project:
    return views.project(await projects.create(context, body.name))


@router.get("", response_model_exclude_unset=True)
async def index(context: InContext, paging: InPages) -> Page[models.Project]:
    found, following = part_of(await projects.every(context), paging, _age)
    return page([views.project(project) for project in found], following, paging)


@router.get("/{project_id}")
async def get(context: InContext, project_id: str) -> models.Project:
    return views.project(await projects.find(context, project_id))


@router.put("/{project_id}")
async def rename(context: InContext, project_id: str, body: models.NewProject) -> models.Project:
    return views.project(await projects.rename(context, project_id, body.name))


@router.delete("/{project_id}")
async def delete(context: InContext, project_id: str) -> models.Project:
    """Forget an empty project."""
    gone = await projects.delete(context, project_id)
    return views.project(gone, deleted_at=context.clock.now())


@router.get("/{project_id}/deployments", response_model_exclude_unset=True)
async def index_deployments(
    context: InContext, project_id: str, paging: InPages, name: str | None = None
) -> Page[models.Deployment]:
    project = await projects.find(context, project_id)
    return await deployments_page(context, paging, await projects.deployments(context, project.id), name)


def _age(project: Project) -> tuple[float, str]:
    return project.created_at, project.id
