"""What is mounted into replicas, and where it comes from. Pure."""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """An integration: what a volume is filled with. `type` is `s3`, `git-lfs` or `volume` (nothing).

    `key` names the volume: another key is another volume. A `volume` is writable and its key is its name;
    the others are read-only and their key is a digest of all that decides what is in them. `target` is the
    absolute path in a container. `url` is `s3://bucket/prefix` or that of a git repository; `endpoint` is
    None for Amazon's own.
    """

    name: str
    type: str
    key: str
    target: str
    url: str = field(default="", repr=False)  # that of a repository may have a password in it
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)

    @property
    def writable(self) -> bool:
        return self.type == "volume"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine that a replica sees: at `target` in a container, at `folder` as a process."""

    name: str
    folder: str
    target: str
    writable: bool = False


def variable(name: str) -> str:
    """The variable that tells a replica where the integration of that name is."""
    return "HALE_INTEGRATION_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
