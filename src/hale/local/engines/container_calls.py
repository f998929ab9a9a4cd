"""Calls about containers of this installation of hale, in its words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiodocker

from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.container_config import ATTEMPT, REPLICA, SERVER

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Found:
    """A container of ours in a list. One that has not `begun` was left half-made."""

    container: str
    replica_id: str
    attempt: int
    running: bool
    begun: bool

    @classmethod
    def read(
        cls, container: str, names: Sequence[str], state: str, labels: Mapping[str, str]
    ) -> "Found | None":
        """None if it is somebody else's, whose image was made of a container of ours, with its labels."""
        suffix = f"-{labels.get(REPLICA)}-{labels.get(ATTEMPT)}"
        if not any(name.startswith("/hale-") and name.endswith(suffix) for name in names):
            return None
        begun = state not in ("created", "configured", "initialized")
        running = begun and state not in ("exited", "dead", "stopped", "removing")
        return cls(container, labels[REPLICA], int(labels[ATTEMPT]), running, begun)


class Containers:
    """`server` is the id of this installation: nothing without its label is ever touched."""

    def __init__(self, api: Api, server: str) -> None:
        self._api = api
        self._server = server

    async def ours(self, replica_id: str | None = None) -> Sequence[Found]:
        """All of them, or those of a replica; running, ended and half-made ones."""
        labels = [f"{SERVER}={self._server}"]
        if replica_id is not None:
            labels.append(f"{REPLICA}={replica_id}")
        with engine_errors("list containers"):
            found = await self._api.docker.containers.list(all=1, filters=json.dumps({"label": labels}))
            read = (Found.read(each.id, each["Names"], each["State"], each["Labels"]) for each in found)
            return [each for each in read if each is not None]

    async def inspect(self, container: str) -> Mapping[str, Any] | None:
        """None if there is no such container."""
        with engine_errors(f"look at container {container[:12]}"):
            try:
                return await self._api.docker.containers.container(container).show()
            except aiodocker.DockerError as error:
                if error.status == _NOT_FOUND:
                    return None
                raise

    async def signal(self, container: str, name: str) -> None:
        """EngineError if it does not run."""
        with engine_errors(f"send {name} to container {container[:12]}"):
            await self._api.docker.containers.container(container).kill(signal=name)

    async def delete(self, container: str) -> None:
        """By force if it runs; one that is not there is well."""
        with engine_errors(f"remove container {container[:12]}"):
            try:
                await self._api.docker.containers.container(container).delete(force=True, v=True)
            except aiodocker.DockerError as error:
                if error.status != _NOT_FOUND:
                    raise
