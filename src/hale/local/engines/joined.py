"""JoinedEngine: containers for templates with an image, processes for those without."""

from collections.abc import Callable, Sequence

from hale.core.deployment import Template
from hale.core.image import Credentials, Progress
from hale.ports import Engine, ExecResult, Instance, Launch, LogLine


class JoinedEngine:
    """Two engines as one. A replica is with one of them for good, since its template has an image or none.

    Images and logins are the containers' affair.
    """

    def __init__(self, processes: Engine, containers: Engine) -> None:
        self._processes = processes
        self._containers = containers
        self._holders: dict[str, Engine] = {}

    def unable(self, template: Template) -> str:
        return self._of(template).unable(template)

    def notes(self, template: Template) -> Sequence[str]:
        return self._of(template).notes(template)

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        return await self._containers.pull(image, credentials, tell)

    async def find_image(self, image: str) -> str | None:
        return await self._containers.find_image(image)

    async def log_in(self, credentials: Credentials) -> None:
        await self._containers.log_in(credentials)

    async def start(self, launch: Launch) -> Instance:
        engine = self._of(launch.template)
        instance = await engine.start(launch)
        self._holders[launch.replica_id] = engine
        return instance

    async def stop(self, replica_id: str, *, grace: float) -> None:
        for engine in self._holding(replica_id):
            await engine.stop(replica_id, grace=grace)

    async def instances(self) -> Sequence[Instance]:
        found: list[Instance] = []
        for engine in (self._processes, self._containers):
            held = await engine.instances()
            self._holders.update((instance.replica_id, engine) for instance in held)
            found.extend(held)
        return found

    async def remove(self, replica_id: str) -> None:
        for engine in self._holding(replica_id):
            await engine.remove(replica_id)
        self._holders.pop(replica_id, None)

    def on_exit(self, listener: Callable[[str], None]) -> None:
        self._processes.on_exit(listener)
        self._containers.on_exit(listener)

    async def execute(self, replica_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        engine = self._holders.get(replica_id, self._processes)
        return await engine.execute(replica_id, command, timeout=timeout)

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        for engine in self._holding(replica_id):
            if lines := await engine.log_lines(replica_id, after=after):
                return lines
        return []

    def _of(self, template: Template) -> Engine:
        return self._containers if template.image else self._processes

    def _holding(self, replica_id: str) -> Sequence[Engine]:
        """The engine that has the replica; both may be asked about one that neither is known to have."""
        held = self._holders.get(replica_id)
        return (held,) if held is not None else (self._processes, self._containers)
