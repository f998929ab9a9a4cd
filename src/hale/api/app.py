"""The API as an ASGI application."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.middleware import Middleware

import hale
from hale.api import errors
from hale.api.auth import BearerAuth
from hale.api.context import Context
from hale.api.limits import BodyLimit
from hale.api.routes import deployments, events, projects, registries, secrets, server
from hale.clock import Clock
from hale.ports import Platform, Store
from hale.settings import Settings


def create_app(
    *,
    store: Store,
    platform: Platform,
    settings: Settings,
    clock: Clock,
    token: str,
    down: Callable[[], None],
) -> FastAPI:
    """The API under /v1; `down` is called when somebody asks for the end of everything."""
    app = FastAPI(
        title="hale",
        version=hale.__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # a browser has no way to send the token
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": errors.ErrorBody, "description": "What went wrong."}},
        middleware=[Middleware(BodyLimit), Middleware(BearerAuth, token=token)],
        # Clients that send JSON without saying so are understood.
        strict_content_type=False,
    )
    app.state.context = Context(store, platform, settings, clock, down)
    resources = (server, events, deployments, projects, registries)
    routers = [*(resource.router for resource in resources), secrets.of_projects, secrets.of_teams]
    errors.install(app, {"/v1": [route for router in routers for route in router.routes]})
    for router in routers:
        app.include_router(router, prefix="/v1")
    return app


def end_streams(app: FastAPI) -> None:
    """Let every stream of events end by itself; a server that shuts down would wait for them."""
    context: Context = app.state.context
    context.closing.set()
