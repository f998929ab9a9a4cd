"""What one command in a container costs: run by hale's engine, and by `podman exec`, in turn.

Time on the clock and CPU time, of Podman and all that it starts as well: its monitor, the runtime, and what
cleans up afterwards.
"""

import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kit.podman import Podman
from kit.until import until

from bench.usage import cpu_seconds_of_all
from hale.local.engines.container import ContainerEngine
from hale.ports import Launch

COMMANDS, ROUNDS = 10, 3
COMMAND = ["true"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command, in ms: on the clock, CPU time of all, CPU time of the one process that asked."""

    clock: float
    cpu: float
    own: float


async def costs(podman: Podman, engine: ContainerEngine, launch: Launch) -> tuple[Cost, Cost]:
    """Of hale and of the command line, for a replica that runs."""
    name = f"hale-{launch.slug}-{launch.replica_id}-{launch.attempt}"

    async def with_hale() -> None:
        result = await engine.execute(launch.replica_id, COMMAND, timeout=60)
        if result.code != 0:
            raise RuntimeError(f"cannot run {COMMAND[0]}: {result}")

    async def with_podman() -> None:
        podman.run("exec", name, *COMMAND)

    await with_hale()
    rounds = [(await _one(podman, with_hale), await _one(podman, with_podman)) for _ in range(ROUNDS)]
    ours, theirs = zip(*rounds, strict=True)
    return min(ours, key=_cpu), min(theirs, key=_cpu)


def _cpu(cost: Cost) -> float:
    return cost.cpu


async def _one(podman: Podman, command: Callable[[], Awaitable[None]]) -> Cost:
    resting = len(podman.processes)
    clocks = []
    before, own, theirs = time.process_time(), os.times(), cpu_seconds_of_all(podman.processes)
    for _ in range(COMMANDS):
        began = time.monotonic()
        await command()
        clocks.append((time.monotonic() - began) * 1000)
    own_time, children = time.process_time() - before, os.times()
    waited_for = children.children_user + children.children_system - own.children_user - own.children_system
    # Podman cleans up after each a little later.
    until(lambda: len(podman.processes) <= resting, what="Podman is at rest again")
    podmans = cpu_seconds_of_all(podman.processes) - theirs
    share = 1000 / COMMANDS
    return Cost(
        statistics.median(clocks), (own_time + waited_for + podmans) * share, (own_time + waited_for) * share
    )
