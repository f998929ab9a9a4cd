"""HaproxyBalancer: traffic through a HAProxy that outlives the daemon.

What should be is a Table in memory. `apply` replaces it, `set_ready` changes it; whatever HAProxy has
instead (after an adoption, a crash, a lost command) is read from it and brought there by `_converge`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from hale.clock import Clock
from hale.core.event import Event, Level
from hale.errors import BalancerError
from hale.local.balancers.haproxy_config import Gateway
from hale.local.balancers.haproxy_plane import Plane
from hale.local.balancers.haproxy_process import find_binary, resolved, threads
from hale.local.balancers.haproxy_socket import ConnectionLostError, Runtime
from hale.local.balancers.haproxy_table import (
    Table,
    arrange,
    changes,
    departures,
    parse,
    questions,
    server_id,
    slot_number,
    state_command,
)
from hale.ports import Route
from hale.settings import Address

T = TypeVar("T")

log = logging.getLogger(__name__)

_STOCK = 64
_PATIENCE = 5.0
_PAUSES = 0.05, 0.2, 1.0
_SWEEP = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_YES = ("", "New server registered.", "Server deleted.", "no need to change", "IP changed")
_STILL_USED = "Server still has connections"


class HaproxyBalancer:
    """`async with` finds the HAProxy of the folder or starts one; leaving it lets it run on."""

    def __init__(
        self, folder: Path, bind: Address, clock: Clock, *, binary: Path | None = None, stock: int = _STOCK
    ) -> None:
        self._folder = folder
        self._bind = bind
        self._clock = clock
        self._binary = binary
        self._stock = stock
        self._listeners: list[Callable[[Event], None]] = []
        self._want = Table()
        self._busy: set[str] = set()
        self._wanted = self._done = 0
        self._lock = asyncio.Lock()
        self._up = asyncio.Event()
        self._mend = asyncio.Event()
        self._runtime: Runtime | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._exit = AsyncExitStack()
        self._plane: Plane

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose if it was to choose one."""
        if self._plane.gateway is None:
            raise BalancerError("cannot say where the gateway listens: it was not started")
        return self._plane.gateway.address

    # --- lifetime ---

    async def __aenter__(self) -> Self:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as error:
            raise BalancerError(
                f"cannot keep the gateway's files in {self._folder}: {error.strerror}",
                hint="choose another folder with --data DIR",
            ) from error
        binary = self._binary or await find_binary()
        async with AsyncExitStack() as stack:
            self._plane = Plane(self._folder, binary)
            stack.callback(self._plane.close)
            await self._open()
            stack.callback(self._disconnect)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            self._tasks = [group.create_task(self._supervise()), group.create_task(self._keep_mending())]
            stack.callback(self._end_tasks)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _disconnect(self) -> None:
        if self._runtime is not None:
            self._runtime.close()

    async def _open(self) -> None:
        running = await self._plane.find()
        address = await resolved(self._bind)
        if address.port == 0:
            address = self._plane.remembered(address.host)
        gateway = Gateway(address, threads(), max(self._stock, self._plane.last_stock()))
        if not running:
            self._want = self._plane.last_table()
            await self._plane.start(gateway, self._want)
        else:
            self._want = await self._read()
            self._busy = self._want.used
            if self._plane.runs(gateway):
                self._plane.gateway = gateway
            else:
                await self._plane.reload(gateway, self._want)
                self._disconnect()
        self._up.set()

    async def stop(self) -> None:
        self._end_tasks()
        self._up.clear()
        self._disconnect()
        async with self._lock:
            await self._plane.stop()

    # --- the port ---

    async def apply(self, routes: Sequence[Route]) -> None:
        self._want = arrange(routes, self._want, self._busy)
        self._busy |= self._want.used
        self._wanted += 1
        await self._converge(self._wanted)

    def set_ready(self, server_id: str, *, ready: bool) -> None:
        place = self._want.place(server_id)
        if place is None:
            return
        self._want.mark(server_id, ready=ready)
        if self._runtime is not None:
            self._runtime.tell(state_command(place, ready=ready))

    async def in_flight(self) -> Mapping[str, int]:
        return await self._patiently(self._count)

    def on_event(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    # --- bringing HAProxy to the table ---

    async def _converge(self, wanted: int = 0) -> None:
        await self._patiently(lambda: self._pass(wanted))

    async def _patiently(self, do: Callable[[], Awaitable[T]]) -> T:
        """Once more where HAProxy has just ended: it is started again in a moment."""
        for pause in _PAUSES:
            try:
                return await do()
            except ConnectionLostError:
                await asyncio.sleep(pause)
        return await do()

    async def _pass(self, wanted: int) -> None:
        """Those who wait meanwhile for the same are served by one pass."""
        async with self._lock:
            if wanted and self._done >= wanted:
                return
            await self._running()
            have = await self._read()
            while (needed := self._needed()) > self._gateway.slots:
                have = await self._enlarge(needed)
            # From here to the first await nothing can come between: orders of set_ready follow ours.
            serving, commands = self._wanted, changes(have, self._want)
            answers = await self._connected().ask(commands)
            await self._judge(commands, answers)
            self._plane.keep(self._want)
            self._done = serving

    async def _judge(self, commands: Sequence[str], answers: Sequence[str]) -> None:
        """A refusal counts only if the table is not there: some are of things done already."""
        left = _left_behind(commands, answers)
        self._busy = self._want.used | left
        refused = [f"{c}: {a}" for c, a in zip(commands, answers, strict=True) if not _fine(a)]
        if refused and self._missing(await self._read()):
            raise BalancerError(f"cannot tell HAProxy: {refused[0]}")
        if left:
            self._mend.set()

    def _missing(self, have: Table) -> set[str]:
        return {*changes(have, self._want)} - {*departures(have, self._want)}

    async def _count(self) -> dict[str, int]:
        async with self._lock:
            await self._running()
            question = "show stat -1 4 -1"
            return _requests([*await self._connected().ask([question]), *await self._plane.ask_old(question)])

    @property
    def _gateway(self) -> Gateway:
        if self._plane.gateway is None:
            raise BalancerError("cannot tell HAProxy: it was not started")
        return self._plane.gateway

    def _needed(self) -> int:
        return max(map(slot_number, self._want.used), default=0)

    async def _enlarge(self, needed: int) -> Table:
        slots = self._gateway.slots
        while slots < needed:
            slots *= 2
        gateway = Gateway(self._gateway.address, self._gateway.threads, slots)
        await self._plane.reload(gateway, self._want)
        self._disconnect()  # the old worker would wait for us
        return await self._read()

    async def _read(self) -> Table:
        servers, hosts, keys = await self._connected().ask(questions())
        return parse(servers, hosts, keys)

    def _connected(self) -> Runtime:
        if self._runtime is None or self._runtime.closed:
            try:
                self._runtime = self._plane.connect(self._trouble)
            except OSError as error:
                raise ConnectionLostError(f"cannot tell HAProxy: {error.strerror}") from error
        return self._runtime

    async def _running(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._up.wait()
        except TimeoutError as error:
            raise BalancerError("cannot tell HAProxy: it is not running") from error

    def _trouble(self, what: str) -> None:
        log.info("HAProxy is compared with what it should carry: %s", what)
        self._mend.set()

    async def _keep_mending(self) -> None:
        while True:
            await self._mend.wait()
            self._mend.clear()
            try:
                await self._converge()
            except BalancerError as error:
                log.warning("%s", error.message)
                self._mend.set()
            except Exception:
                log.exception("cannot compare HAProxy with what it should carry")
                self._mend.set()
            await asyncio.sleep(_SWEEP if self._mend.is_set() else 0)

    # --- supervision ---

    async def _supervise(self) -> None:
        while True:
            await self._plane.gone()
            self._up.clear()
            self._disconnect()
            self._tell("gateway.ended", "HAProxy ended and is started again", Level.WARNING)
            await self._restart()
            self._up.set()
            self._mend.set()
            self._tell("gateway.back", f"the gateway listens on {self.address} again", Level.NORMAL)

    async def _restart(self) -> None:
        pause, told = _FIRST_PAUSE, ""
        self._plane.end_workers()
        while True:
            try:
                await self._plane.start(self._gateway, self._want)
            except (BalancerError, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    self._tell("gateway.failed", told, Level.WARNING)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def _tell(self, kind: str, message: str, level: Level) -> None:
        log.log(logging.WARNING if level is Level.WARNING else logging.INFO, "%s", message)
        event = Event(self._clock.now(), kind, message, level=level)
        for listener in self._listeners:
            listener(event)


def _fine(answer: str) -> bool:
    return answer == "" or answer.startswith((*_YES[1:], _STILL_USED))


def _left_behind(commands: Sequence[str], answers: Sequence[str]) -> set[str]:
    """Slots with servers that could not be deleted yet."""
    return {
        command.split()[2].partition("/")[0]
        for command, answer in zip(commands, answers, strict=True)
        if command.startswith("del server") and not answer.startswith("Server deleted")
    }


def _requests(answers: Sequence[str]) -> dict[str, int]:
    """Current sessions per server, over all workers."""
    flights: dict[str, int] = {}
    for line in "\n".join(answers).splitlines():
        slot, name, _, _, current, *_ = [*line.split(",", 5), *[""] * 5]
        if slot.startswith("slot-"):
            known = server_id(name)
            flights[known] = flights.get(known, 0) + int(current)
    return flights
