"""100 containers with an exec check each beside 200 HTTP checks a second, on a real Podman.

Everything is real but the replicas of the HTTP checks, which are ports of one fast server, and the gateway, a
table in memory. Measured is a process of its own in a network of its own (tests/kit): first what one command
costs, then how late HTTP checks are without exec checks, then with them. The kernel tells how long the
measured process waited for a core. Podman is told to clean up after a second instead of five minutes, so that
all that a check costs is in the figures.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop
from kit.images import busybox
from kit.namespaces import enter_own_network
from kit.parts import PODMAN, lacking
from kit.podman import Podman

from bench.commands import Cost, costs
from bench.native import Programs, answering
from bench.usage import cpu_seconds_of_all
from bench.watcher import Mark, Ports, Watcher, Window, late
from hale.clock import Clock
from hale.core.deployment import Deployment, Revision, Template
from hale.core.probe import ExecAction, Probe, ProbeResult
from hale.daemon import freeze
from hale.local.checks import Checker, Target
from hale.local.engines.container import ContainerEngine
from hale.local.engines.joined import JoinedEngine
from hale.local.platform import LocalPlatform
from hale.memory.balancer import MemoryBalancer
from hale.memory.volumes import MemoryVolumes
from hale.ports import Launch
from hale.settings import Address
from hale.store.sqlite import SqliteStore

DEPLOYMENTS, REPLICAS = 10, 10
CONTAINERS = DEPLOYMENTS * REPLICAS
ENDPOINTS = 200
PERIOD, EXEC_PERIOD = 1.0, 10.0
SECONDS, WITHOUT, WITH = 4.0, 2, 5
"""Of a window; how many of them without exec checks, and with: two periods of these."""
READY_WITHIN = 150.0
IMAGE = "localhost/busybox:1"

HTTP = {
    "apiVersion": "v1",
    "command": ["app"],
    "resources": {"machineType": "C4", "ports": [8000], "replicas": ENDPOINTS // DEPLOYMENTS},
    "healthChecks": {"readiness": {"path": "/readiness/", "periodSeconds": int(PERIOD)}},
}
EXEC = {
    "apiVersion": "v1",
    "image": IMAGE,
    "command": ["sleep", "1000000"],
    "resources": {"machineType": "C4", "ports": [8000], "replicas": REPLICAS},
    "healthChecks": {"readiness": {"exec": {"command": ["true"]}}},
}


@dataclass(frozen=True, slots=True)
class Phase:
    """Some windows in a row; `execs` are ms from tick to result of each exec check, Podman in % of a core."""

    windows: list[Window]
    left_out: int
    failed: int
    execs: list[float]
    execs_failed: int
    podman: float

    @property
    def seconds(self) -> float:
        return self.windows[-1].ended - self.windows[0].began


class _Apart:
    """Tells exec checks, which are noted here by their ends, from HTTP checks, which the watcher notes."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self.http = Watcher(checker.begin, PERIOD)
        self.clear()

    def begin(
        self, probe: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        began = time.monotonic()

        def ended(result: ProbeResult) -> None:
            self.execs.append((began, time.monotonic(), target.replica_id))
            self.execs_failed += not result.ok
            report(result)

        def answered(result: ProbeResult) -> None:
            self.failed += not result.ok
            report(result)

        if isinstance(probe.action, ExecAction):
            return self._checker.begin(probe, target, ended, eager=eager)
        return self.http.begin(probe, target, answered, eager=eager)

    def clear(self) -> None:
        self.http.clear()
        self.failed = self.execs_failed = 0
        self.execs: list[tuple[float, float, str]] = []


class _World:
    """The platform and what it stands on, while it runs."""

    def __init__(self, podman: Podman, ports: Sequence[int], folder: Path) -> None:
        self._podman = podman
        self._folder = folder
        self._clock = Clock.start()
        self._balancer = MemoryBalancer()
        self._http = Ports(self._clock, iter(ports), PERIOD)
        self._exec = ContainerEngine(folder / "containers", self._clock, sockets=[podman.socket])

    async def run(self) -> tuple[Phase, float, Phase]:
        """Without exec checks; the seconds in which all containers were ready; with exec checks."""
        async with AsyncExitStack() as stack:
            self._store = await stack.enter_async_context(SqliteStore.open(self._folder / "hale.db"))
            await stack.enter_async_context(self._exec)
            self._engine = JoinedEngine(self._http, self._exec)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            self._apart = _Apart(await stack.enter_async_context(Checker(self._clock, self._engine)))
            self._platform = LocalPlatform(
                self._store,
                self._engine,
                self._balancer,
                self._apart.begin,
                self._clock,
                volumes=MemoryVolumes(),
                gateway=Address("127.0.0.1", 80),
                domain="localhost",
            )
            running = asyncio.Event()
            task = group.create_task(self._platform.run(running.set))
            await running.wait()
            freeze()
            await self._up("http", HTTP)
            without = await self._phase(WITHOUT)
            took = await self._up("exec", EXEC)
            found = without, took, await self._phase(WITH)
            task.cancel()
        return found

    async def _up(self, kind: str, spec: dict[str, Any]) -> float:
        """Seconds until all replicas of the deployments were ready."""
        names = [f"{kind}-{number}" for number in range(DEPLOYMENTS)]
        began, now = time.monotonic(), self._clock.now()
        for name in names:
            revision = Revision(f"{name}-1", name, 1, json.dumps(spec | {"name": name}), now)
            await self._store.apply(Deployment(name, "p", name, name, now), revision)
            self._platform.wake(name)
        wanted = DEPLOYMENTS * spec["resources"]["replicas"]
        async with asyncio.timeout(READY_WITHIN):
            while sum(len(self._balancer.ready(name)) for name in names) < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def _phase(self, windows: int) -> Phase:
        # Ticks are counted from the start of a replica; the clock of uvloop is the monotonic one.
        offset = self._clock.now() - time.monotonic()
        phases = {each.replica_id: each.started_at - offset for each in await self._engine.instances()}
        await asyncio.sleep(2 * PERIOD)  # what was done just now made checks late
        self._apart.clear()
        before = cpu_seconds_of_all(self._podman.processes)
        marks = [await self._window() for _ in range(windows)]
        used = cpu_seconds_of_all(self._podman.processes) - before
        times = self._apart.http.late(phases)
        own = self._apart.http.own(times)
        told = [Window.told(times, own, *each) for each in marks]
        return Phase(
            told,
            self._apart.http.left_out(phases),
            self._apart.failed,
            [
                late(began - phases[who], EXEC_PERIOD) + (ended - began) * 1000
                for began, ended, who in self._apart.execs
            ],
            self._apart.execs_failed,
            used / (windows * SECONDS) * 100,
        )

    async def _window(self) -> tuple[Mark, Mark]:
        began = self._apart.http.mark()
        await asyncio.sleep(SECONDS)
        return began, self._apart.http.mark()


async def _costs(podman: Podman, folder: Path) -> tuple[Cost, Cost]:
    launch = Launch("r1", 1, "d", "one", 1, Template("k", tuple(EXEC["command"]), IMAGE))
    async with ContainerEngine(folder, Clock.start(), sockets=[podman.socket]) as engine:
        await engine.start(launch)
        found = await costs(podman, engine, launch)
        await engine.stop(launch.replica_id, grace=0)
        await engine.remove(launch.replica_id)
    return found


async def _crowd(podman: Podman, ports: Sequence[int], folder: Path) -> tuple[Phase, float, Phase]:
    return await _World(podman, ports, folder).run()


def _measure(folder: Path) -> dict[str, Any]:
    """In a process of its own, which moves into a network of its own."""
    if not enter_own_network():
        return {"missing": ["root on Linux with the right to make namespaces"]}
    if missing := lacking(*PODMAN):
        return {"missing": missing}
    programs = Programs.made(folder)
    with Podman(folder / "podman") as podman, answering(programs, ENDPOINTS) as ports:
        settings = podman.folder / "containers.conf"
        settings.write_text(settings.read_text().replace("[engine]", "[engine]\nexit_command_delay = 1"))
        podman.restart()
        podman.load(busybox().archive(folder / "image.tar", IMAGE))
        ours, theirs = uvloop.run(_costs(podman, folder / "one"))
        without, started, beside = uvloop.run(_crowd(podman, ports, folder))
        told = {"ours": ours, "theirs": theirs, "without": without, "beside": beside}
        return {name: asdict(each) for name, each in told.items()} | {"started": started}


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]))))
