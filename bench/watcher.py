"""Notes of when checks begin, by a process about itself; and the replicas of benches that are only ports."""

import os
import random
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hale.clock import Clock
from hale.core.probe import Probe, ProbeResult
from hale.local.checks import Target
from hale.local.prober import Begin
from hale.memory.engine import MemoryEngine
from hale.ports import Instance, Launch

_EARLY = 0.002


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of measuring: the checks, the CPU seconds and the nanoseconds of waiting until then."""

    at: float
    checks: int
    cpu: float
    waited: int


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of measuring: lateness in ms of each check, shares in % of the time."""

    began: float
    ended: float
    late: list[float]
    own: list[float]
    waited: float
    cpu: float

    @classmethod
    def told(cls, late: Sequence[float], own: Sequence[float], began: Mark, ended: Mark) -> "Window":
        part, share = slice(began.checks, ended.checks), 100 / (ended.at - began.at)
        return cls(
            began.at,
            ended.at,
            list(late[part]),
            list(own[part]),
            (ended.waited - began.waited) / 1e9 * share,
            (ended.cpu - began.cpu) * share,
        )


class Watcher:
    """Stands before the checker, and notes when which replica was asked."""

    def __init__(self, begin: Begin, period: float) -> None:
        self._begin = begin
        self._period = period
        self._numbers: dict[str, int] = {}
        self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self.at = array("d")
        self.waited = array("q")
        self.who = array("l")

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

    def left_out(self, phases: dict[str, float]) -> int:
        """Ticks between the first and the last check of each replica that had none."""
        order = [phases[replica_id] for replica_id in self._numbers]
        ticks: dict[int, list[int]] = {}
        for at, who in zip(self.at, self.who, strict=True):
            ticks.setdefault(who, []).append(int((at - order[who] + _EARLY) // self._period))
        return sum(seen[-1] - seen[0] + 1 - len(seen) for seen in ticks.values())

    def waited_so_far(self) -> int:
        """Nanoseconds that this thread could have run and had no core to run on."""
        return int(os.pread(self._file, 64, 0).split()[1])

    def late(self, phases: dict[str, float]) -> list[float]:
        """Milliseconds after the tick of each check; `phases` are moments of ticks."""
        order = [phases[replica_id] for replica_id in self._numbers]
        return [late(at - order[who], self._period) for at, who in zip(self.at, self.who, strict=True)]

    def own(self, late: Sequence[float]) -> list[float]:
        """The same without what this thread waited for a core meanwhile: that is the machine's doing."""
        own = []
        for at, waited, milliseconds in zip(self.at, self.waited, late, strict=False):
            before = max(0, bisect_right(self.at, at - milliseconds / 1000) - 1)
            own.append(max(0.0, milliseconds - (waited - self.waited[before]) / 1e6))
        return own


class Ports(MemoryEngine):
    """Replicas that are there already, each at a port of a server, started at some moment of a period."""

    def __init__(self, clock: Clock, ports: Iterator[int], period: float) -> None:
        super().__init__(clock)
        self._free = ports
        self._period = period
        self._random = random.Random(7)

    async def start(self, launch: Launch) -> Instance:
        await super().start(launch)
        held = self._held[launch.replica_id]
        started_at = held.instance.started_at - self._random.random() * self._period
        held.instance = replace(held.instance, started_at=started_at, ports={8000: next(self._free)})
        return held.instance


def late(seconds: float, period: float) -> float:
    """Milliseconds after the last tick, or before one: the loop's clock counts whole milliseconds."""
    late = seconds % period
    return (late if late < period - _EARLY else late - period) * 1000


def at(ordered: Sequence[float], share: float) -> float:
    """The figure that this share of them does not exceed."""
    return ordered[int(len(ordered) * share)]
