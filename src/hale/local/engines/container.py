"""ContainerEngine: replicas are containers of the Podman or Docker on this machine.

The engine knows what runs, by the labels of this installation; what is held here is what it said last, to
this hale or to the one before. It may go and come back: until then nothing is started, and what ran is taken
to run.
"""

import asyncio
import json
import logging
import os
import secrets
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from hale.clock import Clock
from hale.core.deployment import Template
from hale.core.image import Credentials, Progress
from hale.errors import EngineError, EngineUnavailableError, HaleError
from hale.local.engines import container_config as config
from hale.local.engines.container_api import Api, engine_errors, start_again
from hale.local.engines.container_calls import Containers, Found
from hale.local.engines.container_config import SERVER
from hale.local.engines.container_exec import ContainerExec
from hale.local.engines.container_launch import Launcher
from hale.local.engines.container_logs import LINES, ContainerLogs
from hale.local.engines.container_memory import ran_out
from hale.local.engines.container_network import ContainerNetwork
from hale.local.engines.container_processes import first, hears, living
from hale.local.engines.container_records import Known, remember, remembered
from hale.local.engines.images import Images
from hale.local.engines.records import Records, boot_id
from hale.local.engines.seen_through import seen_through
from hale.ports import ExecResult, Instance, Launch, LogLine

log = logging.getLogger(__name__)

_ID, _ENGINE = "id", "engine"
_RETRY, _LONGEST_RETRY = 1.0, 4.0
_FIRST_LOOK, _LOOK = 0.5, 5.0
_POLL, _LONGEST_POLL = 0.05, 1.0
_SETTLED_WITHIN = 1.0
"""Seconds after its start in which a replica may not hear signals yet."""
_KILLED_WITHIN = 30.0
_BACK_WITHIN = 30.0
"""Seconds that an engine which went away has to come back before a call gives up."""
_COPY, _LONGEST_COPY = 4.0, 32.0
"""Seconds between two looks at a log: longer for those who say nothing."""
_SHARE = 10.0
"""How many times as long as a look at a log takes there is none."""
_COPIED_WITHIN = 5.0
"""Seconds that those who read a log wait for its newest lines."""
_ENDS = ("die", "died", "remove", "destroy")
"""Of Docker and of Podman."""
_ASKED_FOR = 30.0
"""Seconds that a start of hale waits for what the engine says, before it goes on with what it remembers."""
_NO_END = aiohttp.ClientTimeout(total=None, sock_connect=5)
_MISSES = 2
_OK = 200


@dataclass(slots=True)
class _Held:
    """The newest attempt of a replica.

    `stops` counts the calls that are ending it, each within its own grace; `copied`: its log is whole.
    `seen` says that its processes can be seen here, `missed` how often in a row they could not; `unasked`
    that all this is from an earlier hale, and the engine has said nothing yet; `buried` that we removed it,
    for it had no processes any more.
    """

    container: str
    stop_signal: str
    instance: Instance
    stops: int = 0
    copied: bool = False
    seen: bool = False
    missed: int = 0
    unasked: bool = False
    buried: bool = False
    copy_at: float = 0.0
    copy_pause: float = _COPY
    log_trouble: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ContainerEngine:
    """`async with` takes over what runs, also when it comes to be known later; leaving lets it run on.

    `folder` has logs, and the id by which containers of this hale are told from those of others. Every `look`
    seconds everything is looked at, for what no event told.
    """

    def __init__(
        self, folder: Path, clock: Clock, *, sockets: Sequence[Path] | None = None, look: float = _LOOK
    ) -> None:
        self._records = Records(folder)
        self._clock = clock
        self._sockets = sockets
        self._look_every = look
        self._held: dict[str, _Held] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._starting: dict[str, asyncio.Lock] = {}
        self._listed = self._left = False
        self._tasks = asyncio.TaskGroup()
        self._work: set[asyncio.Task[None]] = set()

    # --- lifetime ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        folder = self._records.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._server = _own_id(folder / _ID)
        except OSError as error:
            raise EngineError(f"cannot keep containers in {folder}: {error.strerror}") from error
        self._api = self._engine()
        self._images = Images(self._api)
        self._containers = Containers(self._api, self._server)
        self._network = ContainerNetwork(self._api, self._server)
        self._launcher = Launcher(self._api, self._server, self._containers, self._network)
        self._logs = ContainerLogs(self._api, self._records, self._clock)
        self._exec = ContainerExec(self._api, self._do)
        for known in await asyncio.to_thread(lambda: list(remembered(self._records))):
            self._recall(known)
        await self._tasks.__aenter__()
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_ASKED_FOR):
                await self._reach()
        self._do(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        for task in self._work:
            task.cancel()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            await self._api.close()
            self._logs.close()

    async def shutdown(self) -> None:
        """Remove the network, for when no container is left; quietly left if the engine is away."""
        with suppress(EngineError):
            await self._network.remove()

    def _engine(self) -> Api:
        """The engine where our containers are, if there are any: what runs in one is not known to another."""
        last = self._records.folder / _ENGINE
        if self._sockets is None and not os.environ.get("DOCKER_HOST") and self._has_records():
            with suppress(OSError):
                place = Path(last.read_text())
                leave = f"replicas were there last: remove {last} to leave them and use another engine"
                return Api([place], hint=f"{start_again(place)}; {leave}")
        return Api(self._sockets)

    def _has_records(self) -> bool:
        return any(path.is_dir() for path in self._records.folder.iterdir())

    def on_exit(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def unable(self, template: Template) -> str:
        if unable := config.unable(template):
            return unable
        trouble = self._api.trouble
        return f"image: {trouble.message}; {trouble.hint}" if trouble is not None else ""

    def notes(self, template: Template) -> Sequence[str]:
        return config.notes(template, self._api.host) if self._api.trouble is None else ()

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        return await self._images.pull(image, credentials, tell)

    async def find_image(self, image: str) -> str | None:
        return await self._images.find_image(image)

    async def log_in(self, credentials: Credentials) -> None:
        await self._images.log_in(credentials)

    async def instances(self) -> Sequence[Instance]:
        return [held.instance for held in self._held.values()]

    # --- what the engine says ---------------------------------------------------------------

    async def _reach(self) -> None:
        await self._api.connect()
        place = self._api.socket
        if place is not None and self._sockets is None:
            with suppress(OSError):
                (self._records.folder / _ENGINE).write_text(str(place))
        await self._list()

    async def _watch(self) -> None:
        """Hear of ends as they happen, look at everything now and then; come back to an engine that went."""
        told, pause = "", _RETRY
        while True:
            try:
                if self._api.trouble is not None:
                    await self._reach()
                if told:
                    log.info("the container engine answers")
                told, pause = "", _RETRY
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._hear())
                    group.create_task(self._look_around())
            except* HaleError as errors:
                told = self._away(str(_first(errors)), told)
            except* Exception:  # what it says may be beyond us; it is asked again
                log.exception("cannot follow the container engine")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY)

    def _away(self, why: str, told: str) -> str:
        if self._api.trouble is None:
            self._api.lost(why)
        if why != told:
            # One that was never there may never be wanted.
            wanted = self._listed or self._held
            log.log(logging.WARNING if wanted else logging.INFO, "%s", why)
        return why

    async def _hear(self) -> None:
        """Events say only whom to look at; EngineUnavailableError when they end."""
        wanted = {"type": ["container"], "label": [f"{SERVER}={self._server}"], "event": _ENDS}
        with engine_errors("hear the engine's events"):
            url = self._api.url("events", filters=json.dumps(wanted))
            async with self._api.docker.session.get(url, timeout=_NO_END) as response:
                if response.status != _OK:
                    log.info("the container engine has no events (%s); it is asked instead", response.status)
                    await asyncio.Event().wait()
                async for line in response.content:
                    self._ended_container(str(json.loads(line)["Actor"]["ID"]))
        raise EngineUnavailableError("cannot hear the engine's events: it went away")

    def _ended_container(self, container: str) -> None:
        for held in self._held.values():
            if held.container == container and held.instance.running:
                self._do(self._look(held))

    async def _look_around(self) -> None:
        # Soon for the first time: what ended between the last list and the first event was not heard.
        pause = _FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            await self._list()
            await self._miss()
            for held in [held for held in self._held.values() if self._is_due(held)]:
                await self._copy(held)
            pause = self._look_every

    async def _miss(self) -> None:
        """Look for those that have ended and whose engine has not noticed."""
        all_held = [held for held in self._held.values() if held.instance.running]
        alive = await self._alive() if all_held else None
        if alive is None:
            return
        for held in all_held:
            if held.container in alive:
                held.seen, held.missed = True, 0
            elif held.instance.running and held.seen:
                held.missed += 1
                if held.missed >= _MISSES:
                    await self._vanished(held)

    async def _alive(self) -> frozenset[str] | None:
        """Containers with processes; None if they can't be looked at: then nothing is said of any."""
        try:
            return await asyncio.to_thread(living)
        except OSError as error:
            log.info("cannot look at the processes of containers: %s", error.strerror)
            return None

    async def _vanished(self, held: _Held) -> None:
        await self._look(held)
        if held.instance.running:
            await self._copy(held)
            held.buried = True
            await self._containers.delete(held.container)
            await self._look(held)

    async def _list(self) -> None:
        """Adopt what is ours, notice what has ended or gone, and clear away what is left of attempts."""
        before = dict(self._held)
        found = await self._containers.ours()
        newest = self._newest(found)
        for each in found:
            if self._busy(each.replica_id):
                continue
            if each.begun and each.attempt == newest[each.replica_id]:
                await self._meet(each)
            elif not self._holds(each):  # it was half-made when the list was
                self._do(self._discard(each))
        there = {each.container for each in found}
        for held in before.values():
            if held.instance.running and held.container not in there:
                await self._look(held)
        self._listed = True

    def _busy(self, replica_id: str) -> bool:
        """Whether it is being started: then its containers are not ours to judge."""
        lock = self._starting.get(replica_id)
        return lock is not None and lock.locked()

    def _newest(self, found: Sequence[Found]) -> Mapping[str, int]:
        """The newest attempt of each replica that has begun."""
        newest = {replica_id: held.instance.attempt for replica_id, held in self._held.items()}
        for each in found:
            if each.begun:
                newest[each.replica_id] = max(each.attempt, newest.get(each.replica_id, 0))
        return newest

    def _holds(self, found: Found) -> bool:
        held = self._held.get(found.replica_id)
        return held is not None and held.container == found.container

    async def _meet(self, found: Found) -> None:
        held = self._held.get(found.replica_id)
        if held is None or not self._holds(found):
            inspected = await self._containers.inspect(found.container)
            instance = await self._read(inspected) if inspected is not None else None
            if inspected is not None and instance is not None and not self._busy(found.replica_id):
                await self._hold(inspected, instance)
        elif held.instance.running and (held.unasked or not found.running):
            await self._look(held)

    async def _read(self, inspected: Mapping[str, Any], before: Instance | None = None) -> Instance:
        instance = config.instance(inspected, self._api.host, before)
        limited = bool(inspected["HostConfig"].get("Memory"))
        if limited and instance.exit_code == -signal.SIGKILL and not instance.out_of_memory:
            instance = replace(instance, out_of_memory=await asyncio.to_thread(ran_out, inspected["Id"]))
        return instance

    def _recall(self, known: Known) -> None:
        """Taken to run, if it did, until the engine says otherwise."""
        held = _Held(known.container, known.stop_signal, known.instance, unasked=True)
        if known.instance.running and not known.running:
            held.instance = replace(known.instance, exited_at=self._clock.now())
        if not held.instance.running:
            held.ended.set()
        self._held[known.instance.replica_id] = held

    async def _hold(self, inspected: Mapping[str, Any], instance: Instance) -> _Held:
        stop_signal = str(inspected["Config"].get("StopSignal") or "SIGTERM")
        held = _Held(inspected["Id"], stop_signal, instance)
        self._held[instance.replica_id] = held
        await self._remember(held)
        if not instance.running:
            # Told after whoever starts it knows of it.
            asyncio.get_running_loop().call_soon(self._ended, held)
        return held

    async def _remember(self, held: _Held) -> None:
        """Trouble with it keeps nobody from running: it is missed only while no engine answers."""
        known = Known(held.container, held.stop_signal, held.instance, boot_id())
        try:
            await self._logs.in_thread(remember, self._records, known)
        except OSError as error:
            log.warning("cannot write down where replica %s is: %s", held.instance.replica_id, error.strerror)

    async def _look(self, held: _Held) -> None:
        """Ask the engine about one container, and tell if it has ended."""
        inspected = await self._containers.inspect(held.container)
        if inspected is None:
            instance = replace(held.instance, exited_at=self._clock.now(), removed=not held.buried)
        else:
            instance = await self._read(inspected, held.instance)
        if not held.instance.running:
            return  # somebody else was as quick
        changed = instance != held.instance
        held.instance, held.copied, held.unasked = instance, inspected is None, False
        if not instance.running:
            self._ended(held)
        if changed:
            await self._remember(held)

    def _ended(self, held: _Held) -> None:
        held.ended.set()
        for listener in self._listeners:
            listener(held.instance.replica_id)
        if not self._left:
            self._do(self._copy(held))

    # --- start ------------------------------------------------------------------------------

    async def start(self, launch: Launch) -> Instance:
        return await seen_through(self._do, self._start_in_turn(launch))

    async def _start_in_turn(self, launch: Launch) -> Instance:
        async with self._starting.setdefault(launch.replica_id, asyncio.Lock()):
            held = self._held.get(launch.replica_id)
            if held is not None and held.instance.attempt == launch.attempt:
                return held.instance
            if unable := config.unable(launch.template):
                raise EngineError(f"cannot start replica {launch.replica_id}: {unable}")
            if held is not None:
                await self._over(held)
            for found in await self._containers.ours(launch.replica_id):
                if found.attempt == launch.attempt and found.begun:
                    inspected = await self._containers.inspect(found.container)
                    if inspected is not None:
                        return (await self._hold(inspected, await self._read(inspected))).instance
                await self._discard(found)
            await self._make_room(launch)
            inspected = await self._launcher.launch(launch)
            held = await self._hold(inspected, await self._read(inspected))
            self._do(self._look(held))  # its end may have been told before it was held
            return held.instance

    async def _make_room(self, launch: Launch) -> None:
        try:
            await self._logs.prepare(launch.replica_id, launch.attempt)
        except OSError as error:
            place, why = self._records.folder, (error.strerror or str(error)).lower()
            raise EngineError(
                f"cannot start replica {launch.replica_id}: cannot write in {place}: {why}"
            ) from error

    async def _discard(self, found: Found) -> None:
        """End and remove a container of an attempt that is over, or that never began; its log is kept."""
        if found.running:
            with suppress(EngineError):
                await self._containers.signal(found.container, "SIGKILL")
        with suppress(EngineError, OSError):  # a full disk is all the more a reason to remove it
            await self._logs.copy(found.container, found.replica_id, found.attempt)
        await self._containers.delete(found.container)

    # --- stop -------------------------------------------------------------------------------

    async def stop(self, replica_id: str, *, grace: float) -> None:
        held = self._known(replica_id)
        if held is None or not held.instance.running:
            return
        held.stops += 1
        try:
            deadline = self._now() + grace
            if grace > 0:
                await self._settle(held)
                await self._signal(held, held.stop_signal)
                await self._wait_for(held, deadline)
            deadline = self._now() + _KILLED_WITHIN
            while not held.ended.is_set():
                if self._now() >= deadline:
                    raise EngineError(f"cannot end replica {replica_id}: it does not end, even by force")
                await self._signal(held, "SIGKILL")
                await self._wait_for(held, self._now() + 2 * _LONGEST_POLL)
        finally:
            held.stops -= 1

    def _known(self, replica_id: str) -> _Held | None:
        """EngineUnavailableError if it may be one of ours and the engine was not heard of yet."""
        held = self._held.get(replica_id)
        if held is None and not self._listed and self._records.attempts(replica_id):
            raise self._unknown()
        return held

    def _unknown(self) -> EngineUnavailableError:
        trouble = self._api.trouble
        if trouble is None:
            return EngineUnavailableError(
                "cannot say which replicas run: the container engine is being asked"
            )
        return EngineUnavailableError(trouble.message, hint=trouble.hint)

    async def _settle(self, held: _Held) -> None:
        """Wait for one that was just started to listen: a signal that came before would be lost."""
        number = _number(held.stop_signal)
        settled = held.instance.started_at + _SETTLED_WITHIN
        if self._clock.now() >= settled:
            return
        with suppress(OSError):
            pid = await asyncio.to_thread(first, held.container)
            while pid and self._clock.now() < settled:
                if await asyncio.to_thread(hears, pid, number):
                    return
                await asyncio.sleep(_POLL / 5)

    async def _signal(self, held: _Held, name: str) -> None:
        """However often the engine goes away meanwhile; to have ended already is well."""
        deadline = self._now() + _BACK_WITHIN
        while not held.ended.is_set():
            try:
                await self._containers.signal(held.container, name)
            except EngineUnavailableError:
                if self._now() >= deadline:
                    raise
                await asyncio.sleep(_LONGEST_POLL / 4)
            except EngineError as error:
                await self._look(held)
                if _has_ended(error.message):
                    await self._bury(held)
                if not held.ended.is_set():
                    raise
            else:
                return

    async def _bury(self, held: _Held) -> None:
        """The engine takes no signal for it, though it may be said to run: unless it does, it is gone."""
        alive = await self._alive()
        if alive is not None and held.container not in alive:
            await self._vanished(held)

    async def _wait_for(self, held: _Held, deadline: float) -> None:
        """Until it has ended, or the time has come; the engine's events are quicker than looking."""
        pause = _POLL
        while not held.ended.is_set() and (left := deadline - self._now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, left)):
                    await held.ended.wait()
                    return
            with suppress(EngineUnavailableError):
                await self._look(held)
            pause = min(2 * pause, _LONGEST_POLL)

    async def _over(self, held: _Held) -> None:
        """Until it is gone: what is being stopped has its grace, anything else is ended at once."""
        while held.stops:  # noqa: ASYNC110  (each has a bound of its own)
            await asyncio.sleep(_POLL)
        await self.stop(held.instance.replica_id, grace=0.0)

    async def remove(self, replica_id: str) -> None:
        held = self._known(replica_id)
        if held is not None and held.instance.running:
            raise EngineError(f"cannot remove replica {replica_id}: it runs", hint="stop it first")
        if held is None and self._api.trouble is not None and not self._records.attempts(replica_id):
            return
        for found in await self._containers.ours(replica_id):
            await self._containers.delete(found.container)
        self._held.pop(replica_id, None)
        self._starting.pop(replica_id, None)
        await self._logs.remove(replica_id)

    # --- commands and logs ------------------------------------------------------------------

    async def execute(self, replica_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        held = self._held.get(replica_id)
        if held is None or not held.instance.running:
            raise EngineError(f"cannot run {command[0]} in replica {replica_id}: it does not run")
        return await self._exec.run(held.container, command, timeout=timeout)

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        held = self._held.get(replica_id)
        if held is None or held.copied:
            return await self._logs.lines(replica_id, after, None)
        going = held.instance.attempt
        lines = await self._logs.lines(replica_id, after, going)
        if len(lines) < LINES:
            # An engine that hangs keeps nobody from what was copied.
            with suppress(TimeoutError):
                async with asyncio.timeout(_COPIED_WITHIN):
                    await self._copy(held)
            lines = await self._logs.lines(replica_id, after, None if held.copied else going)
        return lines

    async def _copy(self, held: _Held) -> None:
        """Trouble with a log keeps nobody from ending or starting."""
        over, now = not held.instance.running, self._now()
        if held.copied:
            return
        try:
            fresh = await self._logs.copy(held.container, held.instance.replica_id, held.instance.attempt)
        except (EngineError, OSError) as error:
            if held.log_trouble != (told := str(error)):
                log.info("log of replica %s: %s", held.instance.replica_id, told)
            held.log_trouble, fresh = told, False
        else:
            held.copied, held.log_trouble = over, ""
        held.copy_pause = _COPY if fresh else min(2 * held.copy_pause, _LONGEST_COPY)
        # Whoever writes a great deal at once makes each look expensive.
        took = self._now() - now
        held.copy_at = now + max(held.copy_pause, _SHARE * took)

    def _is_due(self, held: _Held) -> bool:
        return not held.copied and self._now() >= held.copy_at

    # --- tasks ------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _do(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(_told(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        task.add_done_callback(lambda _: work.close())  # if it was cancelled before it began
        return task


def _own_id(path: Path) -> str:
    """The id of this installation, made once."""
    with suppress(FileNotFoundError):
        if known := path.read_text():
            return known
    made = secrets.token_hex(8)
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    return made


def _number(name: str) -> int:
    """Of `SIGTERM`, `TERM` or `15`, as images name it."""
    if name.isdigit():
        return int(name)
    known = signal.Signals.__members__.get(f"SIG{name.upper().removeprefix('SIG')}")
    return int(known or signal.SIGTERM)


def _has_ended(said: str) -> bool:
    """What engines say to a signal for one that does not run."""
    return "state improper" in said or "not running" in said


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _told(work: Coroutine[None, None, None]) -> None:
    """Trouble with one replica is told, and is not the engine's end."""
    try:
        await work
    except (HaleError, OSError) as error:
        log.warning("%s", error)
    except Exception:
        log.exception("cannot look after a container")
