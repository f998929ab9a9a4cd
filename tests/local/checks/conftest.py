"""A checker, and one line to ask it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest
from kit.talk import Answer, Site, serving

from hale.clock import Clock
from hale.core.probe import Action, HttpAction, Probe, ProbeKind, ProbeResult
from hale.local.checks import Checker, Target
from hale.ports import ExecResult

Serve = Callable[..., Awaitable[Site]]
Ask = Callable[..., Awaitable[ProbeResult]]
Until = Callable[..., Awaitable[None]]

DECLARED = 8000


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(answer)`: a site that lasts as long as the test."""
    async with AsyncExitStack() as sites:

        async def start(answer: Answer, **options: object) -> Site:
            return await sites.enter_async_context(serving(answer, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def until() -> Until:
    """`await until(condition)`: comes back when it holds."""

    async def wait(condition: Callable[[], object], within: float = 60.0) -> None:
        async with asyncio.timeout(within):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    return wait


class OneCommandEngine:
    """Runs no process: answers every command alike, after a while."""

    def __init__(self) -> None:
        self.result: ExecResult | Exception = ExecResult(0, "")
        self.takes = 0.0
        self.commands: list[tuple[str, Sequence[str], float]] = []
        self.cancelled = 0

    async def execute(self, replica_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        self.commands.append((replica_id, command, timeout))
        try:
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def engine() -> OneCommandEngine:
    return OneCommandEngine()


@pytest.fixture
async def checker(engine: OneCommandEngine) -> AsyncIterator[Checker]:
    async with Checker(Clock.start(), engine) as checker:  # type: ignore[arg-type]
        yield checker


@pytest.fixture
def ask(checker: Checker) -> Ask:
    """`await ask(site, "/path", ...)`: the result of one check."""

    async def check(
        where: Site | int,
        what: str | Action = "/",
        *,
        timeout: float = 20.0,
        address: str = "127.0.0.1",
        eager: bool = False,
        **options: object,
    ) -> ProbeResult:
        port = where if isinstance(where, int) else where.port
        action = HttpAction(what, **options) if isinstance(what, str) else what  # type: ignore[arg-type]
        probe = Probe(ProbeKind.READINESS, action, timeout=timeout)
        answered: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
        checker.begin(probe, Target("r1", address, {DECLARED: port}), answered.set_result, eager=eager)
        assert not answered.done()
        async with asyncio.timeout(60):
            return await answered

    return check
