"""Making and starting a container for a launch; what could not be started is removed again."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiodocker
from aiodocker.containers import DockerContainer

from hale.core.deployment import Template
from hale.errors import EngineError, EngineUnavailableError, ImageGoneError
from hale.local.engines import container_config as config
from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.container_calls import Containers
from hale.local.engines.container_command import Commands
from hale.local.engines.container_network import ContainerNetwork
from hale.local.engines.container_troubles import explained, without_init
from hale.ports import Launch

_NOT_FOUND = 404


class Launcher:
    """Uses the engine's init, to find out that it has none where that is so."""

    def __init__(self, api: Api, server: str, containers: Containers, network: ContainerNetwork) -> None:
        self._api = api
        self._server = server
        self._containers = containers
        self._network = network
        self._commands = Commands(api)
        self._init = True

    async def launch(self, launch: Launch) -> Mapping[str, Any]:
        """The started container, as the engine shows it."""
        image = await self._image(launch.template)
        await self._network.ensure()
        doing = f"start {_subject(launch.template)}"
        container = await self._create(launch, image, doing)
        try:
            with engine_errors(doing):
                await self._check(container.id, launch.template, image)
                await container.start()
        except EngineUnavailableError:
            raise  # whoever asks again finds it
        except EngineError as error:
            await self._containers.delete(container.id)
            if self._init and without_init(error.message):  # Docker finds out that late
                self._init = False
                return await self.launch(launch)
            raise _explained(doing, error) from error
        with suppress(EngineError):
            await self._network.pin()
        inspected = await self._containers.inspect(container.id)
        if inspected is None:
            raise EngineError(f"cannot {doing}: somebody removed its container")
        return inspected

    async def _image(self, template: Template) -> config.Image:
        name = template.pinned or template.image or ""
        with engine_errors(f"look at the image {name}"):
            try:
                return config.Image.read(await self._api.docker.images.inspect(name))
            except aiodocker.DockerError as error:
                if error.status == _NOT_FOUND:
                    raise ImageGoneError(f"cannot start {name}: the image is no longer here") from error
                raise

    async def _create(self, launch: Launch, image: config.Image, doing: str) -> DockerContainer:
        init = self._init and self._api.host.init
        body = config.body(launch, image, self._api.host, self._server, init=init)
        try:
            with engine_errors(doing):
                return await self._api.docker.containers.create(body, name=config.name(launch))
        except EngineUnavailableError:
            raise
        except EngineError as error:
            if init and without_init(error.message):
                self._init = False
                return await self._create(launch, image, doing)
            if "no such image" in error.message.lower():
                raise ImageGoneError(error.message) from error
            raise _explained(doing, error) from error

    async def _check(self, container: str, template: Template, image: config.Image) -> None:
        """An init would be started, and find out too late that there is nothing for it to start."""
        if self._init and template.command:
            word = config.command(template, image)[0]
            path = {**image.env, **config.environment(template, image)}.get("PATH", "")
            await self._commands.check(container, template.pinned or "", word, path, image.folder)


def _subject(template: Template) -> str:
    return " ".join(template.command) if template.command else str(template.image)


def _explained(doing: str, error: EngineError) -> EngineError:
    said = error.message.removeprefix(f"cannot {doing}: ")
    return EngineError(f"cannot {doing}: {explained(said)}")
