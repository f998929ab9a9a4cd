"""The ports: what the parts of hale promise each other. Implementations pass tests/conformance.

Every call may be repeated, also after a crash or a cancellation. Instants are seconds since the
epoch (clock.Clock), durations seconds.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hale.core.deployment import Deployment, Project, Revision, Template
from hale.core.event import Event
from hale.core.image import Credentials, Preparation, Progress, Registry
from hale.core.outlook import Next
from hale.core.probe import Health, ProbeKind
from hale.core.replica import Replica
from hale.core.secret import Secret
from hale.core.volume import Source

# --- Engine ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """What an engine is asked to run: one attempt of one replica."""

    replica_id: str
    attempt: int
    deployment_id: str
    slug: str
    revision: int
    template: Template


@dataclass(frozen=True, slots=True)
class Instance:
    """What an engine reports about one replica's newest attempt.

    `ports` maps declared to actual ports at `address`. `pid` is None for containers, `container` the name
    of one, as its engine has it. `exited_at` is None while it runs; after that `exit_code` is its code
    (negative: the signal that ended it, None: not known); `out_of_memory` says that the kernel ended it
    because it had used up its memory, `removed` that somebody else removed its container. `notes` are
    warnings about the launch (a variable of the spec that hale's own replaced).
    """

    replica_id: str
    attempt: int
    started_at: float
    address: str = "127.0.0.1"
    ports: Mapping[int, int] = field(default_factory=dict)
    pid: int | None = None
    exited_at: float | None = None
    exit_code: int | None = None
    notes: tuple[str, ...] = ()
    out_of_memory: bool = False
    removed: bool = False
    container: str | None = None

    @property
    def running(self) -> bool:
        return self.exited_at is None


@dataclass(frozen=True, slots=True)
class ExecResult:
    """A command run in a replica: its exit code (None: timed out, killed), at most 10 KiB of output."""

    code: int | None
    output: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line a replica wrote; `at` is when seen (to a second), `position` orders lines of an attempt."""

    replica_id: str
    attempt: int
    at: float
    position: int
    text: str


class Engine(Protocol):
    """Runs replicas.

    Whatever a broken-off call leaves behind shows up in `instances`, where the next reconcile finds it.
    Raises EngineUnavailableError when the engine does not answer, EngineError when it answers no.
    """

    def unable(self, template: Template) -> str:
        """Why this engine can't run the template, naming the field and what to do; "" if it can."""

    def notes(self, template: Template) -> Sequence[str]:
        """What of the template makes no difference here, or not the one that is written; warnings."""

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        """Fetch what the image's name stands for now; returns a reference that always means just that.

        `image` may be such a reference. `tell` hears on the loop how far it is, first when it is begun. An
        engine that leaves images aside fetches nothing, tells nothing and returns the name as it is.
        PreparationError says what stands in the way. Broken off, it ends soon.
        """

    async def find_image(self, image: str) -> str | None:
        """What the name stands for among the images that are here already; None if there is none."""

    async def log_in(self, credentials: Credentials) -> None:
        """Try the credentials at the registry itself; PreparationError says why they don't do."""

    async def start(self, launch: Launch) -> Instance:
        """Start the attempt and return once it runs; the same attempt already started is not an error.

        ImageGoneError when the image has to be pulled again.
        """

    async def stop(self, replica_id: str, *, grace: float) -> None:
        """Ask it to end, by force with all it started after `grace` seconds; return when it is gone.

        An absent or exited replica is not an error.
        """

    async def instances(self) -> Sequence[Instance]:
        """Every replica this engine holds, running or exited (its newest attempt)."""

    async def remove(self, replica_id: str) -> None:
        """Forget an exited replica with its logs; absent is not an error."""

    def on_exit(self, listener: Callable[[str], None]) -> None:
        """Call `listener(replica_id)` on the loop whenever an instance has ended, of adopted ones too."""

    async def execute(self, replica_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        """Run the command in the running replica's environment; kill all of it after `timeout` seconds.

        EngineError if it can't be begun (the command is not found, the replica is not running).
        """

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        """At most 1,000 lines of the replica in order, over all attempts, after (attempt, position)."""


# --- Volumes --------------------------------------------------------------------------------


class Volumes(Protocol):
    """Folders of this machine that integrations are filled into, once, and that replicas mount."""

    def folder(self, deployment_id: str, source: Source) -> str:
        """Where the volume is, or will be once it is filled: an absolute path, free of I/O."""

    async def fill(self, deployment_id: str, source: Source, tell: Callable[[Progress], None]) -> None:
        """Fill the volume and return when it is whole; one that is filled already is left as it is.

        `tell` hears how far it is, first when it is begun, and nothing if there is nothing to do. What a
        broken-off call leaves is never taken for a whole volume. PreparationError says what stands in the
        way.
        """

    async def keep(self, deployment_id: str, keys: Collection[str]) -> None:
        """Remove the deployment's other volumes; with no keys at all, every one and what they were in."""


# --- Balancer -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """A place that requests of a deployment can go to. `id` is unique for each attempt of a replica."""

    id: str
    address: str
    port: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One deployment's traffic: its host names, its password (user `paperspace`), its servers."""

    deployment_id: str
    hosts: tuple[str, ...]
    servers: tuple[Server, ...] = ()
    password: str | None = field(default=None, repr=False)


class Balancer(Protocol):
    """Carries requests to ready servers; stays up without us, and is found again by the next process."""

    async def apply(self, routes: Sequence[Route]) -> None:
        """Make this the whole table. Requests under way on servers that leave are not cut off."""

    def set_ready(self, server_id: str, *, ready: bool) -> None:
        """The short way for one verdict: told before this returns. A lost one is mended by the next apply."""

    async def in_flight(self) -> Mapping[str, int]:
        """Requests under way, by server id, of every server that is still held."""

    def on_event(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with what operators should know (the gateway ended and is back, ...)."""

    async def stop(self) -> None:
        """End the data plane itself, as `hale down` does. Not called on an ordinary shutdown."""


# --- Store ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Where a listing goes on: at most `limit` items after the cursor `after`."""

    limit: int = 120
    after: str | None = None
    descending: bool = True


class Store(Protocol):
    """Remembers. A call that returned has survived a crash of the process; StoreError when it can't.

    Cursors are the id of the last item seen. Lists are ordered by creation. Secrets and passwords are
    sealed before they reach a disk.
    """

    async def projects(self) -> Sequence[Project]: ...
    async def put_project(self, project: Project) -> None: ...
    async def delete_project(self, project_id: str) -> None:
        """Remove it with its secrets; absent is not an error."""

    async def secrets(self) -> Sequence[Secret]:
        """All of them, the team's and every project's, oldest first."""

    async def put_secret(self, secret: Secret) -> None:
        """Create it, or replace the one of that name in that project (or team)."""

    async def delete_secret(self, name: str, project_id: str | None) -> None: ...

    async def registries(self) -> Sequence[Registry]: ...
    async def put_registry(self, registry: Registry) -> None: ...
    async def delete_registry(self, registry_id: str) -> None: ...

    async def apply(self, deployment: Deployment, revision: Revision) -> None:
        """Create or update the deployment and append the revision, both or neither."""

    async def put_deployment(self, deployment: Deployment) -> None: ...
    async def deployment(self, deployment_id: str) -> Deployment | None: ...
    async def deployments(self) -> Sequence[Deployment]:
        """All of them, those being deleted too, oldest first."""

    async def delete_deployment(self, deployment_id: str) -> None:
        """Remove it with its revisions, replicas and events; absent is not an error."""

    async def put_revision(self, revision: Revision) -> None:
        """Update what has become of a revision.

        That is `applied_at`, `healthy_at`, `error`, `image`, `prepared_at`.
        """

    async def revisions(self, deployment_id: str, *, limit: int | None = None) -> Sequence[Revision]:
        """The deployment's, newest first: all, or the newest `limit`."""

    async def put_replicas(self, states: Sequence[tuple[Replica, Mapping[ProbeKind, Health]]]) -> None:
        """Remember replicas with the verdicts and streaks of their checks (results are not kept)."""

    async def replicas(
        self, deployment_id: str | None = None, *, finished: bool = False
    ) -> Sequence[tuple[Replica, Mapping[ProbeKind, Health]]]:
        """Those not STOPPED, and with `finished` those too; oldest first."""

    async def delete_replica(self, replica_id: str) -> None: ...

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        """Keep the events, in order, and return them with their ids."""

    async def events(
        self,
        deployment_id: str | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        replica_id: str | None = None,
        limit: int = 1000,
        newest_first: bool = False,
    ) -> Sequence[Event]:
        """Events with `after` < id < `before`."""

    async def trim_events(self, keep: int) -> None:
        """Forget all but the newest `keep` events of each deployment."""


# --- Platform -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observation:
    """One replica as it is now. `checks` has the configured probes alone, `thresholds` their limits."""

    replica: Replica
    address: str | None
    pid: int | None
    checks: Mapping[ProbeKind, Health]
    thresholds: Mapping[ProbeKind, int]
    next: Next | None
    container: str | None = None


class Platform(Protocol):
    """Where deployments run. It takes what to run from the Store; `wake` says only which to look at."""

    def unable(self, template: Template) -> str:
        """Why this platform can't run the template, naming the field; "" if it can."""

    def notes(self, template: Template) -> Sequence[str]:
        """What of the template makes no difference here, or not the one that is written; warnings."""

    def preparation(self, deployment_id: str) -> Preparation | None:
        """What the newest revision waits for before its first replica; None if it does not."""

    async def log_in(self, credentials: Credentials) -> None:
        """Try the credentials at the registry itself; PreparationError says why they don't do."""

    def wake(self, deployment_id: str) -> None:
        """Look at this deployment again soon: it was applied, changed or deleted, or what it needs was."""

    def endpoint(self, deployment: Deployment) -> str:
        """Host (and port, unless 80) under which its traffic comes in; no scheme."""

    async def observe(self, deployment_id: str) -> Sequence[Observation]:
        """Its replicas now, oldest first, those on the way out too."""

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        """As Engine.log_lines."""

    def follow(self, deployment_id: str | None, *, after: int) -> AsyncIterator[Event]:
        """Events with an id above `after`: those in the Store, then each as it comes, until cancelled."""

    async def down(self) -> None:
        """Stop every replica and the gateway, and keep what is desired, for the next start."""
