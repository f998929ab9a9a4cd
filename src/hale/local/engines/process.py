"""ProcessEngine: replicas are processes of this machine, children of a keeper that outlives the daemon.

Everything about an attempt is in its folder (records, log files); a running one is watched through its
pidfd, whoever started it.
"""

import asyncio
import errno
import logging
import os
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from hale.clock import Clock
from hale.core.deployment import Template
from hale.core.image import Credentials, Progress
from hale.core.probe import HttpAction
from hale.errors import EngineError, HaleError, PreparationError
from hale.local.engines import strays
from hale.local.engines.commands import run_command
from hale.local.engines.environment import HOST, MARK, setting, unenforced
from hale.local.engines.free_ports import free_ports
from hale.local.engines.keeper_link import KeeperLink
from hale.local.engines.log_files import LogFiles
from hale.local.engines.records import Ending, Record, Records, boot_id
from hale.local.engines.seen_through import seen_through
from hale.ports import ExecResult, Instance, Launch, LogLine

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_TEND = 1.0
_POLL = 0.005
_WRITTEN_WITHIN = 2.0
"""Seconds that the keeper has to write down how a replica ended."""
_KILLED_WITHIN = 10.0
_LINES = 1000


@dataclass(slots=True)
class _Held:
    """The newest attempt of a replica. `gone` is set when it has ended and left nothing behind.

    `session` is 0 if it had ended before we came: the number may be another's by now. `stops` counts the
    calls that are ending it, each within its own grace; `ends` says that its end is being looked after.
    """

    record: Record
    instance: Instance
    logs: LogFiles
    session: int = 0
    pidfd: int = -1
    stopping: bool = False
    stops: int = 0
    ends: bool = False
    log_trouble: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def mark(self) -> str:
        return self.record.env[MARK]


class ProcessEngine:
    """`async with` takes over what runs in the folder; leaving it lets everything run on.

    With `ignore_images` the command of a spec with an image is run and the image left aside.
    """

    def __init__(self, folder: Path, clock: Clock, *, ignore_images: bool) -> None:
        self._records = Records(folder)
        self._clock = clock
        self._ignore_images = ignore_images
        self._keeper = KeeperLink(self._records.folder)
        self._held: dict[str, _Held] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._starting: dict[str, asyncio.Lock] = {}
        self._promised: set[int] = set()
        self._thread = ThreadPoolExecutor(1, "logs")
        self._search = strays.Search()
        self._tasks = asyncio.TaskGroup()
        self._tending: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()

    # --- lifetime ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        folder = self._records.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"cannot keep replicas in {folder}: {_why(error)}") from error
        # Before anything is adopted: what ends from now on is written down.
        await self._keeper.open()
        await self._tasks.__aenter__()
        for record in self._records.newest():
            self._adopt(record)
        self._tending = self._tasks.create_task(self._tend())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._tending, *self._work):
            if task is not None:
                task.cancel()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            if not self._promised and not any(held.instance.running for held in self._held.values()):
                await self.shutdown()  # a keeper of nothing
            for held in self._held.values():
                self._unwatch(held)
            self._keeper.close()
            self._thread.shutdown()

    async def shutdown(self) -> None:
        """End the keeper; for when no replica is left."""
        await self._keeper.end()

    def on_exit(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    async def instances(self) -> Sequence[Instance]:
        return [held.instance for held in self._held.values()]

    def unable(self, template: Template) -> str:
        if template.image and not self._ignore_images:
            also = "`--engine process` runs the command and leaves the image aside"
            if not template.command:
                also = "give a `command`, to be run with `--engine process`"
            return f"image: there is no container engine to run {template.image}; {also}"
        if not template.command:
            return (
                "command: there is nothing to run; name a command, processes have no image to take one from"
            )
        return "; ".join(_undeclared(template))

    def notes(self, template: Template) -> Sequence[str]:
        machine = "resources.machineType has no effect here: replicas are processes, without limits"
        notes = (machine,) if template.machine.name else ()
        return (*notes, *unenforced(template, root=os.geteuid() == 0))

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        return image

    async def find_image(self, image: str) -> str | None:
        return image

    async def log_in(self, credentials: Credentials) -> None:
        raise PreparationError(
            f"cannot log in to {credentials.server}: there is no container engine here to do it with",
            event="image.failed",
            fatal=True,
            hint="start Podman or Docker",
        )

    # --- start ------------------------------------------------------------------------------

    async def start(self, launch: Launch) -> Instance:
        return await seen_through(self._do, self._start_in_turn(launch))

    async def _start_in_turn(self, launch: Launch) -> Instance:
        lock = self._starting.setdefault(launch.replica_id, asyncio.Lock())
        async with lock:
            held = self._held.get(launch.replica_id)
            if held is not None and held.record.attempt == launch.attempt:
                return held.instance
            if held is not None:
                await self._over(held)
            return await self._start(launch)

    async def _over(self, held: _Held) -> None:
        """Until it is gone: what is being stopped has its grace, anything else is ended at once."""
        while held.stops:  # noqa: ASYNC110  (each has a bound of its own)
            await asyncio.sleep(_POLL)
        await self.stop(held.record.replica_id, grace=0.0)

    async def _start(self, launch: Launch) -> Instance:
        template = launch.template
        if unable := self.unable(template):
            raise EngineError(f"cannot start replica {launch.replica_id}: {unable}")
        taken = {port for held in self._held.values() for port in _live_ports(held)} | self._promised
        ports = dict(zip(template.ports, free_ports(len(template.ports), taken), strict=True))
        # Until it is held, nobody else may be given its ports.
        self._promised |= set(ports.values())
        try:
            return await self._start_on(launch, ports)
        except OSError as error:
            raise EngineError(f"cannot start {' '.join(template.command)}: {_why(error)}") from error
        finally:
            self._promised -= set(ports.values())

    async def _start_on(self, launch: Launch, ports: dict[int, int]) -> Instance:
        template = launch.template
        folder = self._records.prepare(launch.replica_id, launch.attempt)
        around = setting(template, ports, os.environ, mark=str(folder))
        notes = around.notes
        if template.image:
            notes = (*notes, f"image: {template.image} is left aside, the command is run as a process")
        cwd = template.workdir or str(self._own_folder(launch.deployment_id))
        record = Record(
            launch.replica_id, launch.attempt, self._clock.now(), ports, around.env, cwd, boot_id(), notes
        )
        answer = await self._keeper.ask(
            {
                "do": "start",
                "attempt": str(folder.relative_to(self._records.folder)),
                "argv": list(around.argv),
                "env": dict(around.env),
                "cwd": cwd,
                "limit": strays.limit(str(folder)),
                "record": record.written(private={name for name, _ in template.env}),
            }
        )
        if "errno" in answer:
            raise EngineError(_refusal(answer["at"], answer["errno"], around.argv[0], record, folder))
        return self._hold(replace(Record.read(answer["record"]), env=around.env)).instance

    def _own_folder(self, deployment_id: str) -> Path:
        """Where replicas of a deployment that names no folder run."""
        folder = self._records.folder.parent / "work" / deployment_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    # --- watching ---------------------------------------------------------------------------

    def _adopt(self, record: Record) -> None:
        ending = self._records.ending(record.replica_id, record.attempt)
        if ending is not None or record.boot != boot_id():
            at, code = (ending.at, ending.code) if ending else (self._clock.now(), None)
            held = self._holding(record)
            held.instance = replace(held.instance, exited_at=at, exit_code=code)
            self._held[record.replica_id] = held
            if record.boot == boot_id():
                self._do(self._clear(held))
            else:
                held.gone.set()
            return
        self._hold(record)

    def _holding(self, record: Record) -> _Held:
        instance = Instance(
            record.replica_id,
            record.attempt,
            record.started_at,
            HOST,
            record.ports,
            record.pid,
            notes=record.notes,
        )
        return _Held(record, instance, LogFiles(self._records.attempt(record.replica_id, record.attempt)))

    def _hold(self, record: Record) -> _Held:
        """Watch the process until it ends; it may have ended already."""
        held = self._held[record.replica_id] = self._holding(record)
        self._watch(held)
        return held

    def _watch(self, held: _Held) -> None:
        record = held.record
        try:
            held.pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            self._ends(held)
            return
        except OSError as error:
            # Out of files: it runs all the same, and is looked for again.
            log.warning("cannot watch replica %s: %s", record.replica_id, _why(error))
            held.session = record.pid
            return
        # Another process may bear the pid by now; of one that waits to be reaped the pidfd tells at once.
        if strays.ticks(record.pid) != record.ticks:
            held.session = 0
            self._ends(held)
            return
        held.session = record.pid
        asyncio.get_running_loop().add_reader(held.pidfd, self._ends, held)

    def _ends(self, held: _Held) -> None:
        held.ends = True
        self._unwatch(held)
        self._do(self._ended(held))

    def _unwatch(self, held: _Held) -> None:
        if held.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(held.pidfd)
            os.close(held.pidfd)
            held.pidfd = -1

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(_told(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _ended(self, held: _Held) -> None:
        """Tell how it ended as soon as that is known, then end what it left behind."""
        self._unwatch(held)
        now = self._clock.now()
        ending = await self._ending(held)
        code = ending.code if ending else None
        held.instance = replace(held.instance, exited_at=now, exit_code=code)
        for listener in self._listeners:
            listener(held.record.replica_id)
        if not held.stopping:
            await self._clear(held)

    async def _ending(self, held: _Held) -> Ending | None:
        """Its keeper writes it down in a moment, if that is still there."""
        record, loop = held.record, asyncio.get_running_loop()
        deadline = loop.time() + _WRITTEN_WITHIN
        while (ending := self._records.ending(record.replica_id, record.attempt)) is None:
            if loop.time() >= deadline:
                return None
            if not strays.living(record.keeper):
                return self._records.ending(record.replica_id, record.attempt)
            await asyncio.sleep(_POLL)
        return ending

    # --- stop -------------------------------------------------------------------------------

    async def stop(self, replica_id: str, *, grace: float) -> None:
        held = self._held.get(replica_id)
        if held is None or held.gone.is_set():
            return
        held.stops += 1
        try:
            if held.pidfd >= 0:
                held.stopping = True
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(held.record.pid, signal.SIGTERM)
                await self._wait_for(held, grace)
            await self._clear(held)
        finally:
            held.stops -= 1

    async def _wait_for(self, held: _Held, grace: float) -> None:
        """Until the process and its group have ended by themselves, `grace` seconds at most."""
        deadline = asyncio.get_running_loop().time() + grace
        pause = _POLL
        while held.instance.running or _group_lives(held.record.pid):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 0.1)

    async def _clear(self, held: _Held) -> None:
        """End by force whatever is left of the attempt, and wait until it is gone."""
        record = held.record
        deadline = asyncio.get_running_loop().time() + _KILLED_WITHIN
        while True:
            left = await self._search.members(held.session, held.mark)
            if not left and not held.instance.running:
                break
            strays.end(left, signal.SIGKILL)
            if held.pidfd >= 0:
                # Not among the living if only its first thread has ended.
                with suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(held.pidfd, signal.SIGKILL)
            if asyncio.get_running_loop().time() >= deadline:
                raise EngineError(f"cannot end replica {record.replica_id}: {left} do not end, even by force")
            await asyncio.sleep(_POLL if left else _POLL / 2)
        await self._in_thread(_tend, [held], self._clock.now())
        held.gone.set()

    async def remove(self, replica_id: str) -> None:
        held = self._held.get(replica_id)
        if held is not None and held.instance.running:
            raise EngineError(f"cannot remove replica {replica_id}: it runs", hint="stop it first")
        if held is not None:
            await self._over(held)
        self._held.pop(replica_id, None)
        self._starting.pop(replica_id, None)
        await self._in_thread(self._records.remove, replica_id)

    # --- commands and logs ------------------------------------------------------------------

    async def execute(self, replica_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        held = self._held.get(replica_id)
        if held is None or not held.instance.running:
            raise EngineError(f"cannot run {command[0]} in replica {replica_id}: it does not run")
        return await run_command(command, held.record.env, held.record.cwd, timeout=timeout)

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        lines: list[LogLine] = []
        for attempt in self._records.attempts(replica_id):
            if attempt < after[0] or len(lines) >= _LINES:
                continue
            position = max(0, after[1]) if attempt == after[0] else 0
            held = self._held.get(replica_id)
            over = held is None or held.record.attempt != attempt or held.gone.is_set()
            logs = LogFiles(self._records.attempt(replica_id, attempt))
            found = await self._in_thread(logs.read, position, _LINES - len(lines), over)
            now = self._clock.now()
            lines += [
                LogLine(replica_id, attempt, line.at if line.at is not None else now, line.end, line.text)
                for line in found
            ]
        return lines

    async def _in_thread(self, do: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """One thread for all files of logs: what cuts them and what reads them take turns."""
        call = partial(do, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TEND)
            running = [held for held in self._held.values() if held.instance.running]
            for held in running:
                if held.pidfd < 0 and not held.ends:
                    self._watch(held)
            await self._in_thread(_tend, running, self._clock.now())


def _tend(all_held: Sequence[_Held], now: float) -> None:
    """Trouble with a log (a full disk) keeps nobody from ending or starting; it is told once."""
    for held in all_held:
        trouble = ""
        try:
            held.logs.tend(now)
        except OSError as error:
            trouble = _why(error)
        except Exception as error:  # a log that changes under our hands is no reason to leave the others
            log.exception("log of replica %s", held.record.replica_id)
            trouble = repr(error)
        if trouble and trouble != held.log_trouble:
            log.warning("log of replica %s: %s", held.record.replica_id, trouble)
        held.log_trouble = trouble


async def _told(work: Coroutine[None, None, None]) -> None:
    """Trouble with one replica is told, and is not the engine's end."""
    try:
        await work
    except (HaleError, OSError) as error:
        log.warning("%s", error)
    except Exception:
        log.exception("cannot look after a replica")


def _undeclared(template: Template) -> Iterator[str]:
    """The checks of ports that a process does not have: each declared port has a free one, no other has."""
    declared = ", ".join(str(port) for port in template.ports)
    for kind, probe in sorted(template.probes.items()):
        port = probe.action.port if isinstance(probe.action, HttpAction) else None
        if port is not None and port not in template.ports:
            yield f"healthChecks.{kind}.port: must be a port of resources.ports ({declared}), not {port}"


def _live_ports(held: _Held) -> set[int]:
    return set() if held.gone.is_set() else set(held.record.ports.values())


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _why(error: OSError) -> str:
    why = error.strerror or str(error)
    return why[:1].lower() + why[1:]


def _refusal(at: str, number: int, command: str, record: Record, folder: Path) -> str:
    """What the keeper could not do, in words."""
    why = os.strerror(number)
    why = why[:1].lower() + why[1:]
    match at:
        case "cwd":
            return f"cannot start {command}: cannot enter the folder {record.cwd}: {why}"
        case "log" | "record":
            return f"cannot start {command}: cannot write in {folder}: {why}"
        case "fork":
            return f"cannot start {command}: cannot make a process: {why}"
        case _ if number == errno.ENOENT and _there(command, record):
            return f"cannot start {command}: what its #! line or its loader names is not there"
        case _ if number == errno.ENOENT:
            return f"cannot start {command}: command not found"
        case _ if number == errno.ENOEXEC:
            return f"cannot start {command}: not a program, and no #! line says what runs it"
        case _:
            return f"cannot start {command}: {why}"


def _there(command: str, record: Record) -> bool:
    if "/" in command:
        return (Path(record.cwd) / command).exists()
    return shutil.which(command, path=record.env.get("PATH", os.defpath)) is not None
