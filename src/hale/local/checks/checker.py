"""Begins checks of every kind; all of them are over when it is closed."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from hale.clock import Clock
from hale.core.probe import ExecAction, HttpAction, Probe, TcpAction
from hale.local.checks.exec_check import Commands, ExecCheck
from hale.local.checks.http_check import HttpCheck, plan
from hale.local.checks.names import Names, numeric
from hale.local.checks.reply import Reply, Report
from hale.local.checks.request import RequestError
from hale.local.checks.tcp_check import TcpCheck
from hale.local.checks.wire import Wire
from hale.ports import Engine, ExecResult

Cancel = Callable[[], None]

_NO_PORT = "there is no port to check"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a replica's checks go: `ports` maps declared to actual ones, in declared order."""

    replica_id: str
    address: str
    ports: Mapping[int, int]

    def port(self, declared: int | None) -> int | None:
        """The actual port; None if it has no ports at all. One that was not declared is taken as it is."""
        if declared is None:
            return next(iter(self.ports.values()), None)
        return self.ports.get(declared, declared)


class Checker:
    """`async with Checker(...)`: begins checks from then on, and cancels those under way at its end."""

    def __init__(self, clock: Clock, engine: Engine) -> None:
        self._clock = clock
        self._exec = Commands(engine)
        self._tasks = asyncio.TaskGroup()
        self._commands: set[asyncio.Task[ExecResult | str]] = set()

    async def __aenter__(self) -> "Checker":
        self._loop = asyncio.get_running_loop()
        self._wire = Wire(self._loop)
        self._names = Names(self._loop)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()
        for command in list(self._commands):
            command.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def begin(self, probe: Probe, target: Target, report: Report, *, eager: bool = False) -> Cancel:
        """Begin one check and return how to cancel it. Never raises.

        `report` is called exactly once, later on the loop, unless the check was cancelled or this was closed.
        """
        reply = Reply(report, self._clock.at(self._loop.time()), eager=eager)
        if self._wire.closed:
            return reply.cancel
        match probe.action:
            case HttpAction() as action:
                return self._begin_http(action, probe.timeout, target, reply)
            case ExecAction() as action:
                return self._begin_exec(action, probe.timeout, target, reply)
            case TcpAction() as action:
                return self._begin_tcp(action, probe.timeout, target, reply)

    def _begin_http(self, action: HttpAction, timeout: float, target: Target, reply: Reply) -> Cancel:
        port = target.port(action.port)
        if port is None:
            return self._refuse(reply, _NO_PORT)
        try:
            planned = plan(action, action.host or target.address, port)
        except RequestError as error:
            return self._refuse(reply, str(error))
        check = HttpCheck(self._wire, self._names, planned, timeout, reply)
        check.begin()
        return check.cancel

    def _begin_exec(self, action: ExecAction, timeout: float, target: Target, reply: Reply) -> Cancel:
        task = self._tasks.create_task(self._exec.execute(target.replica_id, action.command, timeout))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        return ExecCheck(task, timeout, reply).cancel

    def _begin_tcp(self, action: TcpAction, timeout: float, target: Target, reply: Reply) -> Cancel:
        port = target.port(action.port)
        places = numeric(target.address, port) if port is not None else ()
        if not places:
            return self._refuse(reply, _NO_PORT if port is None else f"{target.address} is not an address")
        check = TcpCheck(self._wire, places[0], timeout, reply)
        check.begin()
        return check.cancel

    def _refuse(self, reply: Reply, why: str) -> Cancel:
        """Nothing can be asked, and it is the spec that makes it so: the check fails."""
        self._loop.call_soon(reply.fail, why)
        return reply.cancel
