"""The memory parts, writing down what is asked of them, and failing when a scenario says so."""

import asyncio
from collections.abc import Callable, Collection, Sequence

from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.core.event import Event
from hale.core.image import Credentials, Progress
from hale.core.probe import Probe, ProbeResult
from hale.core.volume import Source
from hale.errors import EngineError, EngineUnavailableError, HaleError, StoreError
from hale.local.checks import Target
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore, State
from hale.memory.volumes import MemoryVolumes
from hale.ports import Instance, Launch, Route

Say = Callable[[str], None]


class Store(MemoryStore):
    """With a reason in `failure` nothing can be written, with one in `unreadable` nothing be read."""

    def __init__(self, said: Callable[[Event], None]) -> None:
        super().__init__()
        self._said = said
        self.failure = ""
        self.unreadable = ""

    async def deployment(self, deployment_id: str) -> Deployment | None:
        if self.unreadable:
            raise StoreError(f"cannot read the database: {self.unreadable}")
        return await super().deployment(deployment_id)

    def _write(self) -> None:
        if self.failure:
            raise StoreError(f"cannot write to the database: {self.failure}")

    async def apply(self, deployment: Deployment, revision: Revision) -> None:
        self._write()
        await super().apply(deployment, revision)

    async def put_deployment(self, deployment: Deployment) -> None:
        self._write()
        await super().put_deployment(deployment)

    async def delete_deployment(self, deployment_id: str) -> None:
        self._write()
        await super().delete_deployment(deployment_id)

    async def put_revision(self, revision: Revision) -> None:
        self._write()
        await super().put_revision(revision)

    async def put_replicas(self, states: Sequence[State]) -> None:
        self._write()
        await super().put_replicas(states)

    async def delete_replica(self, replica_id: str) -> None:
        self._write()
        await super().delete_replica(replica_id)

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        self._write()
        kept = await super().append(events)
        for event in kept:
            self._said(event)
        return kept


class Engine(MemoryEngine):
    """`slow` is how long a start takes; with a reason in `busy` it answers to no start.

    With one in `unstoppable` it ends nothing, with one in `dumb` it does not answer to pulls.
    """

    def __init__(self, clock: Clock, say: Say) -> None:
        super().__init__(clock)
        self._say = say
        self.slow = 0.0
        self.busy = ""
        self.unstoppable = ""
        self.dumb = ""

    async def start(self, launch: Launch) -> Instance:
        self._say(f"start {launch.replica_id}.{launch.attempt} of revision {launch.revision}")
        await asyncio.sleep(self.slow)
        if self.busy:
            raise EngineUnavailableError(self.busy)
        return await super().start(launch)

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        self._say(f"pull {image}" + (f" as {credentials.username}" if credentials else ""))
        if self.dumb:
            raise EngineUnavailableError(self.dumb)
        try:
            return await super().pull(image, credentials, tell)
        except asyncio.CancelledError:
            self._say(f"pull {image} is given up")
            raise

    async def stop(self, replica_id: str, *, grace: float) -> None:
        self._say(f"stop {replica_id}, grace {grace:g}")
        if self.unstoppable:
            raise EngineError(self.unstoppable)
        await super().stop(replica_id, grace=grace)

    async def remove(self, replica_id: str) -> None:
        self._say(f"remove {replica_id}")
        await super().remove(replica_id)

    async def alive(self) -> Sequence[Instance]:
        """What runs, whether it answers or not."""
        return [held.instance for held in self._held.values() if held.instance.running]

    def alone(self, clock: Clock) -> None:
        """The hale that listened is gone; the next one may have another clock."""
        self._listeners.clear()
        self._clock = clock

    def cut_power(self) -> None:
        """Nothing is left running, and nobody knows how it ended."""
        for held in list(self._held.values()):
            if held.instance.running:
                self.exit(held.instance.replica_id, None)


class Balancer(MemoryBalancer):
    """Tells whenever requests go elsewhere than before."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say
        self._said: dict[str, str] = {}

    async def apply(self, routes: Sequence[Route]) -> None:
        await super().apply(routes)
        self._compare()

    def set_ready(self, server_id: str, *, ready: bool) -> None:
        super().set_ready(server_id, ready=ready)
        self._compare()

    async def stop(self) -> None:
        await super().stop()
        self._say("gateway ends")

    def _compare(self) -> None:
        now = {r.deployment_id: " ".join(self.ready(r.deployment_id)) or "503" for r in self.routes}
        for deployment_id in sorted(now.keys() | self._said.keys()):
            place = now.get(deployment_id, "404")
            if place != self._said.get(deployment_id, "404"):
                self._say(f"{deployment_id} -> {place}")
        self._said = now


class Volumes(MemoryVolumes):
    """Tells what is filled and what is removed."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say
        self._urls: dict[str, str] = {}
        self.unremovable = ""

    async def fill(self, deployment_id: str, source: Source, tell: Callable[[Progress], None]) -> None:
        self._urls[source.key] = source.url
        name = f"{deployment_id}/{source.name} from {source.url}"
        whole = (deployment_id, source.key) in self.filled
        self._say(f"fill {name}" + (": it is" if whole else ""))
        try:
            await super().fill(deployment_id, source, tell)
        except asyncio.CancelledError:
            self._say(f"fill {name} is given up")
            raise

    async def keep(self, deployment_id: str, keys: Collection[str]) -> None:
        if self.unremovable:
            raise HaleError(self.unremovable)
        before = self.filled
        await super().keep(deployment_id, keys)
        for owner, key in sorted(before - self.filled):
            self._say(f"remove {owner}/data from {self._urls[key]}")

    def places(self) -> set[tuple[str, str]]:
        """What is here, by deployment and where it comes from."""
        return {(owner, self._urls[key]) for owner, key in self.filled}


class Checks:
    """Answers of replicas: `answers` by replica (or `*`) and kind, 200 otherwise; 4 ms later."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.answers: dict[tuple[str, str], str] = {}

    def begin(
        self, probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        at, kind = self.clock.now(), str(probe.kind)
        answer = self.answers.get((target.replica_id, kind)) or self.answers.get(("*", kind), "200")
        latency, status, detail = 0.004, int(answer) if answer.isdigit() else None, ""
        if status is None:
            latency, detail = probe.timeout, f"no answer within {probe.timeout:g} s"
        result = ProbeResult(at, status == 200, latency, status, detail, eager)
        return asyncio.get_running_loop().call_later(latency, report, result).cancel
