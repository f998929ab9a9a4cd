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
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.native import Programs, answering
from bench.table import Row, at_most, figure
from bench.timer import beside
from bench.usage import memory
from bench.watcher import Mark, Ports, Watcher, Window, at
from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.daemon import freeze
from hale.local.checks import Checker
from hale.local.platform import LocalPlatform
from hale.memory.balancer import MemoryBalancer
from hale.memory.volumes import MemoryVolumes
from hale.settings import Address
from hale.store.sqlite import SqliteStore

DEPLOYMENTS, REPLICAS = 100, 20
ENDPOINTS = DEPLOYMENTS * REPLICAS
PERIOD = 1.0
WARM_UP = 22.0
"""Seconds until every check has its 20 results, and memory is what it will be."""
SECONDS, WINDOWS = 7.0, 3

SPEC = {
    "apiVersion": "v1",
    "command": ["app"],
    "resources": {"machineType": "C4", "ports": [8000], "replicas": REPLICAS},
    "healthChecks": {"readiness": {"path": "/readiness/", "periodSeconds": int(PERIOD)}},
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the measured process tells; memory in MB without endpoints, with them, and at the end."""

    windows: list[Window]
    left_out: int
    failed: int
    memory: tuple[float, float, float]


async def _measured(ports: Sequence[int], folder: Path) -> Measured:
    clock = Clock.start()
    before = memory(os.getpid())
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteStore.open(folder / "hale.db"))
        engine, balancer = Ports(clock, iter(ports), PERIOD), MemoryBalancer()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        checker = await stack.enter_async_context(Checker(clock, engine))
        watcher = Watcher(checker.begin, PERIOD)
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
        late, left_out = watcher.late(phases), watcher.left_out(phases)
        own = watcher.own(late)
        windows = [Window.told(late, own, *each) for each in marks]
        failed = [
            check
            for number in range(DEPLOYMENTS)
            for replica in await platform.observe(f"d{number}")
            for check in replica.checks.values()
            if not all(result.ok or result.eager for result in check.results)
        ]
        task.cancel()
    return Measured(windows, left_out, len(failed), used)


async def _window(watcher: Watcher) -> tuple[Mark, Mark]:
    began = watcher.mark()
    await asyncio.sleep(SECONDS)
    return began, watcher.mark()


async def _apply(store: SqliteStore, name: str, now: float) -> None:
    document = json.dumps(SPEC | {"name": name})
    await store.apply(Deployment(name, "p", name, name, now), Revision(f"{name}-1", name, 1, document, now))


async def _all_ready(balancer: MemoryBalancer) -> None:
    async with asyncio.timeout(60):
        while sum(len(balancer.ready(f"d{number}")) for number in range(DEPLOYMENTS)) < ENDPOINTS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def rows() -> list[Row]:
    with TemporaryDirectory() as folder:
        programs = Programs.made(Path(folder))
        with answering(programs, ENDPOINTS) as ports, beside() as timer:
            told = json.loads(_child("measured", folder).communicate(json.dumps(ports))[0])
            windows = [Window(**each) for each in told["windows"]]
            timers = timer.late([(each.began, each.ended) for each in windows])
    bare, window = min(zip(timers, windows, strict=True), key=lambda pair: at(pair[0], 0.99))
    late, own = sorted(window.late), sorted(window.own)
    empty, warm, at_end = told["memory"]
    return [
        figure(f"checks, in the quietest {SECONDS:g} s of {SECONDS * WINDOWS:g}", len(late), ""),
        at_most("checks left out, in all", told["left_out"], "", 0),
        at_most("checks that failed, in all", told["failed"], "", 0),
        figure("late, p50", statistics.median(late), "ms"),
        at_most("late, p99", at(late, 0.99), "ms", 20),
        figure("late, max", late[-1], "ms"),
        figure("late but for waiting for a core, p99", at(own, 0.99), "ms"),
        figure("late but for waiting for a core, max", own[-1], "ms"),
        figure("time that it waited for a core", window.waited, "%"),
        figure("a bare timer as busy beside it, p50", statistics.median(bare), "ms"),
        figure("a bare timer as busy beside it, p99", at(bare, 0.99), "ms"),
        figure("a bare timer as busy beside it, max", bare[-1], "ms"),
        figure("CPU of one core", window.cpu, "%"),
        figure("CPU time of a check, all told", window.cpu / 100 * SECONDS / len(late) * 1e6, "µs"),
        figure("memory, without endpoints", empty, "MB"),
        figure(f"memory, with {ENDPOINTS:,} of 20 results each", warm, "MB"),
        at_most(f"memory that {SECONDS * WINDOWS:g} s of checks add", at_end - warm, "MB", 2),
    ]


def _child(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.lateness", *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    match sys.argv[1:]:
        case ["measured", folder]:
            found = uvloop.run(_measured(json.loads(sys.stdin.read()), Path(folder)))
            print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
