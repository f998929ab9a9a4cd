"""Server settings: one frozen object, made by the command line."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hale.core.deployment import Machine
from hale.machines import GRADIENT

API_HOST, API_PORT = "127.0.0.1", 4253
GATEWAY_HOST, GATEWAY_PORT = "127.0.0.1", 8080


def default_data_dir() -> Path:
    """The XDG data folder's part for hale."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "hale"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `hale serve` can be told. `engine` is auto, process or container.

    `machines` are the machine types by name; those that are not there have no limits.
    """

    data: Path = field(default_factory=default_data_dir)
    api: Address = Address(API_HOST, API_PORT)
    gateway: Address = Address(GATEWAY_HOST, GATEWAY_PORT)
    domain: str = "localhost"
    engine: str = "auto"
    machines: Mapping[str, Machine] = field(default_factory=lambda: GRADIENT, repr=False)

    @property
    def database(self) -> Path:
        return self.data / "hale.db"

    @property
    def token(self) -> Path:
        return self.data / "token"

    @property
    def replicas(self) -> Path:
        """The process engine's folder: logs and records of replicas."""
        return self.data / "replicas"

    @property
    def containers(self) -> Path:
        """The container engine's folder: logs of replicas, and the id of this hale's containers."""
        return self.data / "containers"

    @property
    def volumes(self) -> Path:
        """Where integrations are filled into, by deployment."""
        return self.data / "volumes"

    @property
    def gateway_dir(self) -> Path:
        """HAProxy's folder: configuration, sockets, pid file."""
        return self.data / "gateway"
