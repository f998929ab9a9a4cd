"""How an image is fetched: from where, with which credentials, and when what is here already will do."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hale.core.deployment import Pull, Template
from hale.core.image import Credentials, Progress, Registry
from hale.errors import PreparationError
from hale.ports import Engine, Store

_HUB = "docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})

Tell = Callable[[Progress], None]

_UNKNOWN = frozenset({"image.not_found", "image.tag_not_found", "image.denied"})
"""What a registry says of a name that it does not have."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an image's name stands for; `stale` is why it is the one that was here, if it should not be."""

    reference: str
    stale: PreparationError | None = None


class Images:
    """Fetches images with an engine; the Store knows the registries."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store

    async def fetch(self, template: Template, carried: str | None, tell: Tell) -> Fetched:
        """What the revision is to run: what it carries, or what the image's name stands for now."""
        name = template.image or ""
        if carried is not None:
            return await self._carried(template, carried, tell)
        if template.pull is Pull.NEVER or is_local(name):
            here = await self._engine.find_image(name)
            if here is not None:
                return Fetched(here)
        if template.pull is Pull.NEVER:
            raise _not_here(name)
        try:
            return Fetched(await self.pull(template, name, tell))
        except PreparationError as error:
            here = await self._engine.find_image(name) if _will_do(template, error) else None
            if here is None:
                raise
            return Fetched(here, error)

    async def _carried(self, template: Template, carried: str, tell: Tell) -> Fetched:
        if await self._engine.find_image(carried) is None:
            if template.pull is Pull.NEVER:
                raise _not_here(carried)
            await self.pull(template, carried, tell)
        return Fetched(carried)

    async def newest(self, template: Template) -> Template:
        """The template with the image that its name stands for at this moment."""
        fetched = await self.fetch(template, None, unheard)
        return replace(template, pinned=fetched.reference)

    async def pull(self, template: Template, reference: str, tell: Tell) -> str:
        """Fetch just this, with the credentials of the template's registry."""
        return await self._engine.pull(reference, await self._credentials(template), tell)

    async def _credentials(self, template: Template) -> Credentials | None:
        if template.registry is None:
            return None
        for registry in await self._store.registries():
            if registry.name == template.registry:
                return credentials_for(registry, template.image or "")
        raise PreparationError(
            f"cannot pull {template.image}: there is no container registry {template.registry}",
            event="image.denied",
            fatal=True,
            hint=f"add it with `hale registry add {template.registry}`, or apply a spec without it",
        )


def host_of(name: str) -> str:
    """The registry that an image's name means, "" where it says none."""
    first, slash, _ = name.partition("/")
    return first.lower() if slash and (first == "localhost" or any(mark in first for mark in ".:")) else ""


def is_local(name: str) -> bool:
    """Whether Podman built it here: there is no registry of that name."""
    return host_of(name) == "localhost"


def host_of_registry(registry: Registry) -> str:
    """As in the names of its images; the address of a registry is written with or without a scheme."""
    host = registry.url.rpartition("://")[2].partition("/")[0].lower()
    return _HUB if host in _HUB_NAMES else host


def credentials_for(registry: Registry, image: str) -> Credentials:
    """Those of the registry, if the image is from there: nobody else is shown them."""
    host = host_of_registry(registry)
    wanted = host_of(image) or _HUB
    if wanted != host and not (host == _HUB and wanted in _HUB_NAMES):
        raise PreparationError(
            f"cannot pull {image}: it is not from {host}, the host of container registry {registry.name}",
            event="image.denied",
            fatal=True,
            hint="name the image with the registry's host, or another registry",
        )
    return Credentials(wanted, registry.username, registry.password)


def unheard(_: Progress) -> None:
    """For those who don't wait for it."""


def _will_do(template: Template, error: PreparationError) -> bool:
    """Whether what is here will do instead of what could not be pulled."""
    if template.pull is Pull.ALWAYS:
        return False
    unknown = error.event in _UNKNOWN and not host_of(template.image or "")
    return unknown or error.event == "image.unreachable"


def _not_here(name: str) -> PreparationError:
    return PreparationError(
        f"cannot use {name}: it is not here, and hale.pull is never",
        event="image.not_found",
        fatal=True,
        hint="load or build it here, or let hale pull it",
    )
