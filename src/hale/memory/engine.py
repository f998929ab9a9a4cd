"""MemoryEngine: replicas that do as a test says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hale.clock import Clock
from hale.core.deployment import Template
from hale.core.image import Credentials, Progress
from hale.errors import EngineError, EngineUnavailableError, HaleError, ImageGoneError
from hale.ports import ExecResult, Instance, Launch, LogLine

Execution = Callable[[str, Sequence[str]], ExecResult | Awaitable[ExecResult]]

_OUTPUT = 10 << 10
_LINES = 1000


@dataclass(slots=True)
class _Held:
    instance: Instance
    lines: list[LogLine] = field(default_factory=list)


class MemoryEngine:
    """Starts nothing. `exit` and `write` stand for what a replica does, `refusals` for what can't be started.

    A replica told to stop ends with SIGTERM at once, or after its whole grace if it is among the `stubborn`.
    `launches` has every attempt that was started, in order. `execution` answers for commands in replicas; it
    may wait, and may raise EngineError. With a reason in `failure` the engine does not answer at all.
    `registry` has what each name of an image stands for, or the error of its pull, which takes `pull_time`
    seconds; a name that it does not have stands for itself. `pulls` has every one that was begun, `images`
    what is here by name: what is taken out of it is gone. `logins` has the error for the servers that refuse.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._port = 20000
        self.refusals: dict[str, str] = {}
        self.failure = ""
        self.stubborn: set[str] = set()
        self.launches: list[Launch] = []
        self.execution: Execution = lambda replica_id, command: ExecResult(0, "")
        self.registry: dict[str, str | HaleError] = {}
        self.pull_time = 0.0
        self.pulls: list[str] = []
        self.images: dict[str, str] = {}
        self.logins: dict[str, HaleError] = {}

    def exit(self, replica_id: str, code: int | None = 0) -> None:
        """The replica ends by itself."""
        held = self._held[replica_id]
        held.instance = replace(held.instance, exited_at=self._clock.now(), exit_code=code)
        for listener in self._listeners:
            listener(replica_id)

    def lose(self, replica_id: str) -> None:
        """Somebody takes it away behind hale's back."""
        del self._held[replica_id]
        for listener in self._listeners:
            listener(replica_id)

    def write(self, replica_id: str, text: str) -> None:
        """The replica writes a line."""
        held = self._held[replica_id]
        line = LogLine(replica_id, held.instance.attempt, self._clock.now(), len(held.lines) + 1, text)
        held.lines.append(line)

    def unable(self, template: Template) -> str:
        return "" if template.command else "command: there is nothing to run"

    def notes(self, template: Template) -> Sequence[str]:
        return ()

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        self._answer()
        self.pulls.append(image)
        tell(Progress(0, 1))
        await asyncio.sleep(self.pull_time)
        pinned = self.registry.get(image, image)
        if isinstance(pinned, HaleError):
            raise pinned
        tell(Progress(1, 1))
        self.images |= {image: pinned, pinned: pinned}
        return pinned

    async def find_image(self, image: str) -> str | None:
        self._answer()
        return self.images.get(image)

    async def log_in(self, credentials: Credentials) -> None:
        self._answer()
        if credentials.server in self.logins:
            raise self.logins[credentials.server]

    async def start(self, launch: Launch) -> Instance:
        self._answer()
        held = self._held.get(launch.replica_id)
        if held is not None and held.instance.attempt == launch.attempt:
            return held.instance
        if held is not None and held.instance.running:
            self.exit(launch.replica_id, -9)
        refusal = self.unable(launch.template) or self.refusals.get(launch.template.command[0])
        if refusal:
            raise EngineError(f"cannot start replica {launch.replica_id}: {refusal}")
        pinned = launch.template.pinned
        if pinned is not None and pinned not in self.images:
            raise ImageGoneError(f"cannot start replica {launch.replica_id}: {pinned} is not here")
        self.launches.append(launch)
        instance = Instance(
            launch.replica_id,
            launch.attempt,
            self._clock.now(),
            ports=self._ports(launch.template),
            pid=len(self.launches),
            notes=_notes(launch.template),
        )
        self._held[launch.replica_id] = _Held(instance, held.lines if held else [])
        return instance

    def _answer(self) -> None:
        if self.failure:
            raise EngineUnavailableError(self.failure)

    def _ports(self, template: Template) -> Mapping[int, int]:
        first = self._port
        self._port += len(template.ports)
        return dict(zip(template.ports, range(first, self._port), strict=True))

    async def stop(self, replica_id: str, *, grace: float) -> None:
        self._answer()
        held = self._held.get(replica_id)
        if held is None or not held.instance.running:
            return
        if replica_id in self.stubborn:
            await asyncio.sleep(grace)
        if self._held.get(replica_id) is held and held.instance.running:
            self.exit(replica_id, -9 if replica_id in self.stubborn else -15)

    async def instances(self) -> Sequence[Instance]:
        self._answer()
        return [held.instance for held in self._held.values()]

    async def remove(self, replica_id: str) -> None:
        self._answer()
        held = self._held.get(replica_id)
        if held is not None and held.instance.running:
            raise EngineError(f"cannot remove replica {replica_id}: it runs", hint="stop it first")
        self._held.pop(replica_id, None)

    def on_exit(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    async def execute(self, replica_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        self._answer()
        held = self._held.get(replica_id)
        if held is None or not held.instance.running:
            raise EngineError(f"cannot run {command[0]} in replica {replica_id}: it does not run")
        try:
            async with asyncio.timeout(timeout):
                answer = self.execution(replica_id, command)
                result = answer if isinstance(answer, ExecResult) else await answer
        except TimeoutError:
            return ExecResult(None, "")
        return replace(result, output=result.output.encode()[:_OUTPUT].decode(errors="replace"))

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        held = self._held.get(replica_id)
        lines = held.lines if held else []
        return [line for line in lines if (line.attempt, line.position) > after][:_LINES]


def _notes(template: Template) -> tuple[str, ...]:
    own = {"HOST", "PORT"} | {f"PORT_{port}" for port in template.ports}
    return tuple(f"env: {name} is set by hale" for name, _ in template.env if name in own)
