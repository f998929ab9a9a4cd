"""Images and the registries that they come from. Pure."""

from dataclasses import dataclass, field


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
