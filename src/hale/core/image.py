"""Images and the registries that they come from. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

DOCKER_HUB = "docker.io"
"""The host of images whose names have none."""

_HUB_NAMES = frozenset(
    {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com", "docker.com"}
)
_SERVERS = {
    "dockerhub": DOCKER_HUB,
    "ghcr": "ghcr.io",
    "gcr": "gcr.io",
    "digitalocean": "registry.digitalocean.com",
}
_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image's name, whole: `web:1` is `web` of `library` at Docker Hub, with the tag `1`."""

    host: str
    repository: str
    tag: str = "latest"
    digest: str | None = None

    @property
    def place(self) -> str:
        """Without tag and digest."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.place}@{self.digest}" if self.digest else f"{self.place}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry is told: `server` is its host (and port), as in the name of an image."""

    server: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registry:
    """A connection that specs name in `containerRegistry`. `url` and `namespace` are as they were given."""

    id: str
    name: str
    url: str
    namespace: str
    username: str
    password: str = field(repr=False)
    created_at: float
    modified_at: float
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something that is fetched is: `done` of `total` parts (layers, files), and bytes.

    Totals grow while it is found out what there is; 0 stands for not known.
    """

    done: int = 0
    total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a revision waits for before its first replica: `doing` is for people (`pulling web:2`).

    `failures` counts those in a row, `error` is the last one ("": none yet), `retry_at` when it is tried
    again (None: it is under way).
    """

    revision: int
    doing: str
    since: float
    progress: Progress = Progress()
    failures: int = 0
    error: str = ""
    retry_at: float | None = None


def parse_name(image: str) -> ImageName:
    """As engines read it: what comes before the first slash is a host if it could not be anything else."""
    rest, _, digest = image.partition("@")
    host = DOCKER_HUB
    if has_host(image):
        host, _, rest = rest.partition("/")
        host = _canonical(host)
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, "latest"
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return ImageName(host, repository, tag, digest or None)


def has_host(image: str) -> bool:
    """Whether the name says which registry it is of."""
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def is_local(image: str) -> bool:
    """Whether it is one that Podman built here: there is no registry of that name."""
    return image.startswith("localhost/")


def is_id(image: str) -> bool:
    """Whether it is an image's own id, which no registry knows."""
    return _ID.fullmatch(image) is not None


def named(registries: Sequence[Registry], name: str) -> Registry | None:
    """The one that a spec means by `containerRegistry`: by its name, else by its id."""
    by_id = {registry.id: registry for registry in registries}
    return {registry.name: registry for registry in registries}.get(name) or by_id.get(name)


def server(registry: Registry) -> str:
    """The registry's host (and port), as in names of images; "" if neither url nor kind says it."""
    scheme, _, rest = registry.url.strip().rpartition("://")
    host = rest.partition("/")[0].rpartition("@")[2].lower()
    if scheme.lower() == "https":
        host = host.removesuffix(":443")
    return _canonical(host) or _SERVERS.get(registry.kind or "", "")


def credentials(registry: Registry) -> Credentials:
    """What the registry is told, whoever asks."""
    return Credentials(server(registry), registry.username, registry.password)


def credentials_for(registry: Registry, image: str) -> Credentials | None:
    """What the image is pulled with; None if it is at another registry, which must not be told."""
    theirs = credentials(registry)
    return theirs if theirs.server == parse_name(image).host else None


def _canonical(host: str) -> str:
    return DOCKER_HUB if host in _HUB_NAMES else host
