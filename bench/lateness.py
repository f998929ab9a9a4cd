"""How late checks begin when there are many: 2,000 replicas, a readiness check of each every second.

All that a result passes through is real: prober, checker, verdicts, controller, SQLite. Only the replicas
are not processes but ports of one fast server, and the gateway is a table in memory. The measured process is
one of its own, with nothing else in it. A check is late by the time from its tick to its request being on the
wire. Beside it, at the same time, a bare timer of the same event loop in another process, as busy, tells how
late anything is on this machine; and the kernel tells how long the measured process waited for a core. Of
several stretches of time that one counts in which the bare timer was least late: hale has no say in it.
"""

import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.native import Programs, answering
from bench.table import Row, at_most, figure
from bench.usage import memory
from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.core.probe import Probe, ProbeResult
from hale.daemon import freeze
from hale.local.checks import Checker, Target
from hale.local.platform import LocalPlatform
from hale.memory.balancer import MemoryBalancer
from hale.memory.engine import MemoryEngine
from hale.memory.volumes import MemoryVolumes
from hale.ports import Instance, Launch
from hale.settings import Address
from hale.store.sqlite import SqliteStore

DEPLOYMENTS, REPLICAS = 100, 20
ENDPOINTS = DEPLOYMENTS * REPLICAS
PERIOD = 1.0
WARM_UP = 22.0
"""Seconds until every check has its 20 results, and memory is what it will be."""
SECONDS, WINDOWS = 7.0, 3
EARLY = 0.002
TIMER, WORK = 0.001, 0.0002
"""Of the timer beside it: its period, and what it does each time; as busy as 2,000 checks a second are."""

SPEC = {
    "apiVersion": "v1",
    "command": ["app"],
    "resources": {"machineType": "C4", "ports": [8000], "replicas": REPLICAS},
    "healthChecks": {"readiness": {"path": "/readiness/", "periodSeconds": int(PERIOD)}},
}


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of measuring: lateness in ms of each check, shares in % of the time."""

    began: float
    ended: float
    late: list[float]
    own: list[float]
    waited: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of measuring: the checks, the CPU seconds and the nanoseconds of waiting until then."""

    at: float
    checks: int
    cpu: float
    waited: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What the measured process tells; memory in MB without endpoints, with them, and at the end."""

    windows: list[Window]
    left_out: int
    failed: int
    memory: tuple[float, float, float]


class _Ports(MemoryEngine):
    """Replicas that are there already, each at a port of the server, started at some moment of a period."""

    def __init__(self, clock: Clock, ports: Iterator[int]) -> None:
        super().__init__(clock)
        self._free = ports
        self._random = random.Random(7)

    async def start(self, launch: Launch) -> Instance:
        await super().start(launch)
        held = self._held[launch.replica_id]
        started_at = held.instance.started_at - self._random.random() * PERIOD
        held.instance = replace(held.instance, started_at=started_at, ports={8000: next(self._free)})
        return held.instance


class _Watcher:
    """Stands before the checker, and notes when which replica was asked."""

    def __init__(self, checker: Checker) -> None:
        self._begin = checker.begin
        self._numbers: dict[str, int] = {}
        self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self.at = array("d")
        self.waited = array("q")
        self.who = array("l")
        self.failed = 0

    def begin(
        self, probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        cancel = self._begin(probe, target, report, eager=eager)
        self.at.append(time.monotonic())
        self.waited.append(self.waited_so_far())
        self.who.append(self._numbers.setdefault(target.replica_id, len(self._numbers)))
        return cancel

    def clear(self) -> None:
        del self.at[:], self.who[:], self.waited[:]

    def mark(self) -> Mark:
        return Mark(time.monotonic(), len(self.at), time.process_time(), self.waited_so_far())

    def left_out(self) -> int:
        """Ticks between the first and the last check of each replica that had none."""
        ats: dict[int, list[float]] = {}
        for at, who in zip(self.at, self.who, strict=True):
            ats.setdefault(who, []).append(at)
        return sum(round((seen[-1] - seen[0]) / PERIOD) + 1 - len(seen) for seen in ats.values())

    def waited_so_far(self) -> int:
        """Nanoseconds that this thread could have run and had no core to run on."""
        return int(os.pread(self._file, 64, 0).split()[1])

    def late(self, phases: dict[str, float]) -> list[float]:
        """Milliseconds after the tick of each check; `phases` are moments of ticks."""
        order = [phases[replica_id] for replica_id in self._numbers]
        return [_late(at - order[who]) for at, who in zip(self.at, self.who, strict=True)]

    def own(self, late: Sequence[float]) -> list[float]:
        """The same without what this thread waited for a core meanwhile: that is the machine's doing."""
        own = []
        for at, waited, milliseconds in zip(self.at, self.waited, late, strict=False):
            before = max(0, bisect_right(self.at, at - milliseconds / 1000) - 1)
            own.append(max(0.0, milliseconds - (waited - self.waited[before]) / 1e6))
        return own


def _late(seconds: float) -> float:
    """Milliseconds after the last tick, or before one: the loop's clock counts whole milliseconds."""
    late = seconds % PERIOD
    return (late if late < PERIOD - EARLY else late - PERIOD) * 1000


async def _measured(ports: Sequence[int], folder: Path) -> Measured:
    clock = Clock.start()
    before = memory(os.getpid())
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteStore.open(folder / "hale.db"))
        engine, balancer = _Ports(clock, iter(ports)), MemoryBalancer()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        watcher = _Watcher(await stack.enter_async_context(Checker(clock, engine)))
        platform = LocalPlatform(
            store,
            engine,
            balancer,
            watcher.begin,
            clock,
            volumes=MemoryVolumes(),
            gateway=Address("127.0.0.1", 80),
            domain="localhost",
        )
        for number in range(DEPLOYMENTS):
            await _apply(store, f"d{number}", clock.now())
        running = asyncio.Event()
        task = group.create_task(platform.run(running.set))
        await running.wait()
        freeze()
        await _all_ready(balancer)
        await asyncio.sleep(WARM_UP)
        gc.collect()
        warm = memory(os.getpid())
        # Ticks are counted from the start of a replica; the clock of uvloop is the monotonic one.
        offset = clock.now() - time.monotonic()
        phases = {each.replica_id: each.started_at - offset for each in await engine.instances()}
        await asyncio.sleep(PERIOD)  # what we did ourselves just now made checks late
        watcher.clear()
        marks = [await _window(watcher) for _ in range(WINDOWS)]
        gc.collect()
        used = before, warm, memory(os.getpid())
        late, left_out = watcher.late(phases), watcher.left_out()
        own = watcher.own(late)
        windows = [_told(late, own, *each) for each in marks]
        failed = [
            check
            for number in range(DEPLOYMENTS)
            for replica in await platform.observe(f"d{number}")
            for check in replica.checks.values()
            if not all(result.ok or result.eager for result in check.results)
        ]
        task.cancel()
    return Measured(windows, left_out, len(failed), used)


async def _window(watcher: _Watcher) -> tuple[Mark, Mark]:
    began = watcher.mark()
    await asyncio.sleep(SECONDS)
    return began, watcher.mark()


def _told(late: list[float], own: list[float], began: Mark, ended: Mark) -> Window:
    part, share = slice(began.checks, ended.checks), 100 / (ended.at - began.at)
    return Window(
        began.at,
        ended.at,
        late[part],
        own[part],
        (ended.waited - began.waited) / 1e9 * share,
        (ended.cpu - began.cpu) * share,
    )


async def _apply(store: SqliteStore, name: str, now: float) -> None:
    document = json.dumps(SPEC | {"name": name})
    await store.apply(Deployment(name, "p", name, name, now), Revision(f"{name}-1", name, 1, document, now))


async def _all_ready(balancer: MemoryBalancer) -> None:
    async with asyncio.timeout(60):
        while sum(len(balancer.ready(f"d{number}")) for number in range(DEPLOYMENTS)) < ENDPOINTS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _timer(found: list[tuple[float, float]]) -> None:
    """When, and how many milliseconds late: a timer with a little work to do each time, until cancelled."""
    due = time.monotonic()
    while True:
        due += TIMER
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        found.append((began, (began - due) * 1000))
        while time.monotonic() < began + WORK:
            pass


async def _watch_timer() -> None:
    """Runs until its standard input ends; then prints what it found."""
    found: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_timer(found))
        await asyncio.to_thread(sys.stdin.read)
        task.cancel()
    print(json.dumps(found))


def rows() -> list[Row]:
    with TemporaryDirectory() as folder:
        programs = Programs.made(Path(folder))
        with answering(programs, ENDPOINTS) as ports:
            timer = _child("timer")
            measured = _child("measured", folder)
            told = json.loads(measured.communicate(json.dumps(ports))[0])
            ticks = json.loads(timer.communicate()[0])
    windows = [Window(**each) for each in told["windows"]]
    timers = [sorted(late for at, late in ticks if each.began <= at < each.ended) for each in windows]
    bare, window = min(zip(timers, windows, strict=True), key=lambda pair: _at(pair[0], 0.99))
    late, own = sorted(window.late), sorted(window.own)
    empty, warm, at_end = told["memory"]
    return [
        figure(f"checks, in the quietest {SECONDS:g} s of {SECONDS * WINDOWS:g}", len(late), ""),
        at_most("checks left out, in all", told["left_out"], "", 0),
        at_most("checks that failed, in all", told["failed"], "", 0),
        figure("late, p50", statistics.median(late), "ms"),
        at_most("late, p99", _at(late, 0.99), "ms", 20),
        figure("late, max", late[-1], "ms"),
        figure("late but for waiting for a core, p99", _at(own, 0.99), "ms"),
        figure("late but for waiting for a core, max", own[-1], "ms"),
        figure("time that it waited for a core", window.waited, "%"),
        figure("a bare timer as busy beside it, p50", statistics.median(bare), "ms"),
        figure("a bare timer as busy beside it, p99", _at(bare, 0.99), "ms"),
        figure("a bare timer as busy beside it, max", bare[-1], "ms"),
        figure("CPU of one core", window.cpu, "%"),
        figure("CPU time of a check, all told", window.cpu / 100 * SECONDS / len(late) * 1e6, "µs"),
        figure("memory, without endpoints", empty, "MB"),
        figure(f"memory, with {ENDPOINTS:,} of 20 results each", warm, "MB"),
        at_most(f"memory that {SECONDS * WINDOWS:g} s of checks add", at_end - warm, "MB", 2),
    ]


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[int(len(ordered) * share)]


def _child(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.lateness", *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    match sys.argv[1:]:
        case ["measured", folder]:
            found = uvloop.run(_measured(json.loads(sys.stdin.read()), Path(folder)))
            print(json.dumps(asdict(found)))
        case ["timer"]:
            uvloop.run(_watch_timer())


if __name__ == "__main__":
    main()
