"""What was asked for: a deployment, its revisions, and what the newest one wants. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hale.core.backoff import Backoff
from hale.core.probe import Probe, ProbeKind
from hale.core.secret import Secret
from hale.core.volume import Mount, Source


@dataclass(frozen=True, slots=True)
class Project:
    """A folder of deployments; names within it are unique."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """A named app. `slug` is its part of a host name, unique on the server and fixed for life.

    `restarts` counts the restarts that were asked for: each replaces every replica.
    """

    id: str
    project_id: str
    name: str
    slug: str
    created_at: float
    restarts: int = 0
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable, numbered version of a deployment's spec, and what has become of it.

    `document` is the whole v1 spec, `hale` included, as JSON text. `id` is the spec id of the REST
    API. `number` counts from 1 within the deployment. `error` is why it can't be, or has not become,
    healthy. `metadata` are the git headers of the request. `secrets` are those that the spec refers to, as
    they were when it was applied. `image` is what the image's name stood for when it was pulled, as a
    reference that always means the same (None: not known yet, or there is no image); `prepared_at` is when
    its image and volumes were there (None: not yet).
    """

    id: str
    deployment_id: str
    number: int
    document: str
    created_at: float
    applied_at: float | None = None
    healthy_at: float | None = None
    error: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    image: str | None = None
    prepared_at: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A number of replicas, or a percentage of those wanted."""

    value: float
    percent: bool = False

    def up(self, replicas: int) -> int:
        return math.ceil(replicas * self.value / 100) if self.percent else int(self.value)

    def down(self, replicas: int) -> int:
        return math.floor(replicas * self.value / 100) if self.percent else int(self.value)


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a revision takes over. `progress_deadline` is seconds without any progress."""

    max_surge: Share = Share(25, percent=True)
    max_unavailable: Share = Share(25, percent=True)
    progress_deadline: float = 600.0


class Pull(StrEnum):
    """When an image is fetched from its registry."""

    REVISION = "revision"  # once for each revision, whatever is here already
    ALWAYS = "always"  # before each start of a replica, too
    NEVER = "never"  # it has to be here


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type: what a replica may use at most. `memory` is bytes; None: no limit, 0 GPUs: none.

    One that the settings don't know has a name alone.
    """

    name: str = ""
    cpus: float | None = None
    memory: int | None = None
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """What a replica is made of and how it is treated; all replicas of one `key` are alike.

    `key` is a digest of everything in the spec that a running replica depends on: replicas of an
    earlier revision with the same key are kept. `env` is in the order of the spec. `workdir` is an
    absolute folder, or None for the deployment's own. Durations are seconds. `image` is as it is written,
    `pinned` what that name stood for when it was pulled (None: not pulled, or there is no image); `registry`
    names the connection that it is pulled with.
    """

    key: str
    command: tuple[str, ...] = ()
    image: str | None = None
    pinned: str | None = None
    registry: str | None = None
    pull: Pull = Pull.REVISION
    machine: Machine = Machine()
    sources: tuple[Source, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ports: tuple[int, ...] = ()
    workdir: str | None = None
    probes: Mapping[ProbeKind, Probe] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    eager: bool = True
    drain: float = 30.0
    grace: float = 30.0


@dataclass(frozen=True, slots=True)
class Desired:
    """What a deployment should be right now; `replicas` is 0 when disabled or deleted.

    `since` is when this was asked for: the start of the progress deadline. `password` protects the
    endpoint. `reason` is why there are to be fewer replicas, where scaling is not it. Until the revision is
    `prepared` (its image pulled, its volumes filled) no replica comes and none goes for it.
    """

    deployment: Deployment
    revision: int
    template: Template
    replicas: int
    strategy: Strategy = field(default_factory=Strategy)
    since: float = 0.0
    password: str | None = field(default=None, repr=False)
    reason: str = ""
    prepared: bool = True
