"""The composition root: builds the adapters, owns lifetimes and signals; nobody else names an adapter."""

import asyncio
import fcntl
import gc
import logging
import os
import secrets
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI

from hale.api.app import create_app, end_streams
from hale.api.connections import BoundedConnection, allow_many_files
from hale.clock import Clock
from hale.errors import ConflictError, HaleError, RefusedError
from hale.local.balancers.haproxy import HaproxyBalancer
from hale.local.checks import Checker
from hale.local.engines.container import ContainerEngine
from hale.local.engines.container_records import remembered
from hale.local.engines.joined import JoinedEngine
from hale.local.engines.process import ProcessEngine
from hale.local.engines.records import Records
from hale.local.platform import LocalPlatform
from hale.local.volumes.folder import FolderVolumes
from hale.settings import Address, Settings
from hale.store.sqlite import SqliteStore

log = logging.getLogger(__name__)

_LOOKS = 25
"""Times to try for the folder's lock."""

_LINGER = 1
"""Seconds that answers under way get when the daemon ends."""


def run(settings: Settings, *, started: Callable[[Settings], None] = lambda settings: None) -> int:
    """Serve until a signal; returns the exit code. Replicas and gateway outlive it, unless told otherwise."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    allow_many_files()
    with _prepared(settings) as prepared, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(prepared, started))
        except BaseExceptionGroup as group:  # not `except*`: Python 3.11.2 puts what it raises into a group
            raise _reason(group) from None
    return 0


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that has words for the user; the whole group if there is none."""
    error: BaseException | None = group.subgroup(HaleError)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error or group


async def serve(settings: Settings, started: Callable[[Settings], None]) -> None:
    """Run until a signal: everything opened here is closed here, in reverse."""
    clock = Clock.start()
    token = _token(settings.token)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(settings.api))
        store = await stack.enter_async_context(SqliteStore.open(settings.database))
        engines = _engines(settings, clock)
        for each in engines:
            await stack.enter_async_context(each)
        engine = JoinedEngine(*engines) if len(engines) > 1 else engines[0]
        balancer = await stack.enter_async_context(
            HaproxyBalancer(settings.gateway_dir, settings.gateway, clock)
        )
        bound = replace(settings, api=_bound(listener), gateway=balancer.address)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        checker = await stack.enter_async_context(Checker(clock, engine))
        volumes = await stack.enter_async_context(FolderVolumes(settings.volumes))
        platform = LocalPlatform(
            store,
            engine,
            balancer,
            checker.begin,
            clock,
            volumes=volumes,
            machines=settings.machines,
            gateway=bound.gateway,
            domain=bound.domain,
        )
        ending, going_down = asyncio.Event(), asyncio.Event()
        with _signals(ending):
            adopted = asyncio.Event()
            platform_task = group.create_task(platform.run(adopted.set))
            await adopted.wait()
            app = create_app(
                store=store,
                platform=platform,
                settings=bound,
                clock=clock,
                token=token,
                down=going_down.set,
            )
            async with _answering(app, listener, group), _announced(bound):
                started(bound)
                freeze()
                log.info("hale serves %s, its API is at http://%s/v1", bound.gateway, bound.api)
                await _either(group, ending, going_down)
                if going_down.is_set() and not ending.is_set():
                    await _go_down(group, platform, engines, ending)
            platform_task.cancel()


def freeze() -> None:
    """What is here by now stays: the garbage collector, which holds up checks, need not look at it again."""
    gc.collect()
    gc.freeze()


async def _either(group: asyncio.TaskGroup, *events: asyncio.Event) -> None:
    tasks = [group.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _go_down(
    group: asyncio.TaskGroup,
    platform: LocalPlatform,
    engines: Sequence[ProcessEngine | ContainerEngine],
    ending: asyncio.Event,
) -> None:
    """End replicas and gateway; a signal breaks it off and leaves the rest running."""
    down = group.create_task(platform.down())
    waiting = group.create_task(ending.wait())
    await asyncio.wait({down, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not down.done():
        down.cancel()
        return
    for engine in engines:
        await engine.shutdown()


def _engines(settings: Settings, clock: Clock) -> Sequence[ProcessEngine | ContainerEngine]:
    """Those that `--engine` asks for: processes first."""
    _check_left(settings)
    containers = ContainerEngine(settings.containers, clock)
    if settings.engine == "container":
        return [containers]
    processes = ProcessEngine(settings.replicas, clock, ignore_images=settings.engine == "process")
    return [processes] if settings.engine == "process" else [processes, containers]


def _check_left(settings: Settings) -> None:
    """Nobody would look after replicas of an engine that is not asked for, and others come beside them."""
    left, kind, also = 0, "", ""
    if settings.engine == "process":
        left, kind = sum(known.running for known in remembered(Records(settings.containers))), "containers"
        also = f"; if no container of hale is left, remove {settings.containers}"
    elif settings.engine == "container":
        left, kind = sum(1 for _ in Records(settings.replicas).running()), "processes"
    if left:
        raise RefusedError(
            f"cannot serve with --engine {settings.engine}: replicas of before still run as {kind} ({left})",
            hint=f"serve with --engine auto, and end them with `hale down` first{also}",
        )


@contextmanager
def _signals(ending: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: signals are this module's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _answering(app: FastAPI, listener: socket.socket, group: asyncio.TaskGroup) -> AsyncIterator[None]:
    """The API answers inside this block."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",  # a line for all that is no HTTP would let strangers fill the disk
        access_log=False,
        lifespan="off",
        http=BoundedConnection,
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=_LINGER,
    )
    server = _Server(config)
    task = group.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        end_streams(app)
        server.should_exit = True
        await asyncio.wait({task})


@contextmanager
def _prepared(settings: Settings) -> Iterator[Settings]:
    """The data folder, made if need be, ours alone while this lasts."""
    folder = settings.data.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ours(folder)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RefusedError(
            f"cannot serve from {folder}: {error.strerror}", hint="name a folder of yours with --data"
        ) from error
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise ConflictError(
                f"cannot serve from {folder}: another hale serves from it",
                hint="use it, end it with `hale down`, or name another folder with --data",
            ) from None
        yield replace(settings, data=folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock the folder; a command that looks whether there is a daemon has the lock for a moment."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        threading.Event().wait(0.02)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _check_ours(folder: Path) -> None:
    """Whoever else can write there could have hale run what they like, and read or plant the token."""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0):
        why = f"it belongs to another user (uid {status.st_uid})"
    elif status.st_mode & stat.S_IWOTH:
        why = "every user may write there"
    else:
        return
    raise RefusedError(f"cannot serve from {folder}: {why}", hint="name a folder of yours with --data")


def _token(path: Path) -> str:
    """The API's token, made at the first start; only its owner can read it."""
    try:
        known = path.read_text().strip()
        if known:
            path.chmod(0o600)
            return known
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RefusedError(f"cannot use the token in {path}: {error.strerror}") from error
    token = secrets.token_urlsafe(32)
    _write(path, token + "\n")
    return token


def _write(path: Path, text: str) -> None:
    """All of it or nothing, for its owner alone."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RefusedError(f"cannot write {path}: {error.strerror}") from error


@asynccontextmanager
async def _announced(settings: Settings) -> AsyncIterator[None]:
    """Where the command line finds the API: a file that is there as long as it answers."""
    path = settings.data / "api"
    _write(path, f"{settings.api}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise RefusedError(f"cannot listen on {address} for the API: {error.strerror}") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen(128)
        except OSError as error:
            raise ConflictError(
                f"cannot listen on {address} for the API: {error.strerror}",
                hint="is another hale running? name another address with --api",
            ) from error
        yield listener


def _bound(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(host, port)
