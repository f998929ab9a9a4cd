"""How an image is fetched: from where, with which credentials, and when what is here already will do."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hale.core.deployment import Pull, Template
from hale.core.image import Credentials, Progress, credentials_for, has_host, is_id, is_local, named, server
from hale.errors import PreparationError
from hale.ports import Engine, Store

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
        credentials = await self._credentials(template)
        try:
            return Fetched(await self._pull(template, name, credentials, tell))
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
        if fetched.reference == template.image:
            return template  # what stands for itself says no more than the name
        return replace(template, pinned=fetched.reference)

    async def pull(self, template: Template, reference: str, tell: Tell) -> str:
        """Fetch just this, with the credentials of the template's registry."""
        if is_id(reference):
            raise _lost(template.image or "", reference)
        return await self._pull(template, reference, await self._credentials(template), tell)

    async def _pull(self, template: Template, image: str, credentials: Credentials | None, tell: Tell) -> str:
        try:
            return await self._engine.pull(image, credentials, tell)
        except PreparationError as error:
            if error.event != "image.denied":
                raise
            who = "without containerRegistry"
            if credentials is not None:
                who = f"with registry connection {template.registry} (user {credentials.username})"
            raise PreparationError(
                f"{error.message} {who}", event=error.event, fatal=error.fatal, hint=error.hint
            ) from error

    async def _credentials(self, template: Template) -> Credentials | None:
        if template.registry is None:
            return None
        registry = named(await self._store.registries(), template.registry)
        if registry is None:
            raise _denied(
                f"cannot pull {template.image}: there is no container registry {template.registry}",
                f"add it with `hale registry add {template.registry}`, or apply a spec without it",
            )
        found = credentials_for(registry, template.image or "")
        if found is None:
            raise _denied(
                f"cannot pull {template.image}: container registry {template.registry} is another,"
                f" {server(registry) or registry.url}",
                "write the registry's host in front of the image's name, or name another registry",
            )
        return found


def unheard(_: Progress) -> None:
    """For those who don't wait for it."""


def _will_do(template: Template, error: PreparationError) -> bool:
    """Whether what is here will do instead of what could not be pulled."""
    if template.pull is Pull.ALWAYS:
        return False
    unknown = error.event in _UNKNOWN and not has_host(template.image or "")
    return unknown or error.event == "image.unreachable"


def _not_here(name: str) -> PreparationError:
    return PreparationError(
        f"cannot use {name}: it is not here, and hale.pull is never",
        event="image.not_found",
        fatal=True,
        hint="load or build it here, or let hale pull it",
    )


def _lost(name: str, reference: str) -> PreparationError:
    return PreparationError(
        f"cannot pull what {name} was: {reference} is not here any more, and no registry knows it",
        event="image.not_found",
        fatal=True,
        hint="build it here again and apply the spec again",
    )


def _denied(message: str, hint: str) -> PreparationError:
    return PreparationError(message, event="image.denied", fatal=True, hint=hint)
