"""The network that containers of hale are on: made once, shared by every hale of the engine.

A bridge may take its hardware address from one of its ports (with Podman of Debian 12 it does): when that
container goes, the address changes, and no container can be reached until what was learnt of the old one is
forgotten. So the bridge is given, for good, the address that it has.
"""

import asyncio
import fcntl
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import aiodocker

from hale.errors import EngineError
from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.container_config import NETWORK, SERVER

_GET_ADDRESS, _GET_HARDWARE, _SET_HARDWARE = 0x8915, 0x8927, 0x8924
"""Of <linux/sockios.h>."""
_REQUEST = struct.Struct("16s24s")
_GONE = ("not found", "no such network")


class ContainerNetwork:
    """`server` is the id of this installation of hale, which may be another one's than who made it."""

    def __init__(self, api: Api, server: str) -> None:
        self._api = api
        self._server = server
        self._turn = asyncio.Lock()
        self._pinned: set[int] = set()

    async def ensure(self) -> None:
        """Make it unless it is there."""
        if self._bridged():
            return
        async with self._turn:
            if await self._found() is None:
                with engine_errors(f"make the network {NETWORK}"):
                    await self._make()

    async def _make(self) -> None:
        wanted = {
            "Name": NETWORK,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": {SERVER: self._server},
        }
        try:
            await self._api.docker.networks.create(wanted)
        except aiodocker.DockerError:
            if await self._found() is None:  # another hale may have been faster
                raise

    async def pin(self) -> None:
        """Keep the bridge's address as it is. Quietly left where we may not, or the bridge is elsewhere."""
        if self._bridged():
            return
        found = await self._found()
        for config in (found or {}).get("IPAM", {}).get("Config") or ():
            gateway = str(config.get("Gateway") or "")
            for index, name in _interfaces(gateway):
                if index not in self._pinned:
                    self._pinned.add(index)
                    with suppress(OSError):
                        pin(name)

    def _bridged(self) -> bool:
        """A bridge that was pinned is there, so the network is. To ask takes longer the more are on it."""
        return not self._pinned.isdisjoint(index for index, _ in socket.if_nameindex())

    async def remove(self) -> None:
        """If a hale made it and nobody is on it: the last one to go takes it away, whoever was first."""
        async with self._turn:
            found = await self._found()
            if found is None or SERVER not in (found.get("Labels") or {}):
                return
            with engine_errors(f"remove the network {NETWORK}"):
                # Podman would take it away from those who are on it.
                on_it = json.dumps({"network": [NETWORK]})
                if not await self._api.docker.containers.list(all=1, filters=on_it):
                    await (await self._api.docker.networks.get(NETWORK)).delete()

    async def _found(self) -> Mapping[str, Any] | None:
        try:
            with engine_errors(f"look for the network {NETWORK}"):
                return await (await self._api.docker.networks.get(NETWORK)).show()
        except EngineError as error:
            if any(words in error.message for words in _GONE):
                return None
            raise


def pin(interface: str) -> None:
    """Set an interface's hardware address to what it is: from now on the kernel leaves it alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        known = fcntl.ioctl(control, _GET_HARDWARE, _REQUEST.pack(interface.encode(), b""))
        fcntl.ioctl(control, _SET_HARDWARE, known)


def _interfaces(address: str) -> Iterator[tuple[int, str]]:
    """Those of our network that have the address: the bridge, unless the engine is elsewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for index, name in socket.if_nameindex():
            with suppress(OSError):
                answer = fcntl.ioctl(control, _GET_ADDRESS, _REQUEST.pack(name.encode(), b""))
                if socket.inet_ntoa(answer[20:24]) == address:
                    yield index, name
