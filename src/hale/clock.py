"""The only reader of time.

An instant is a float of seconds since the Unix epoch, carried forward by the event loop's own
clock: it never jumps within one process, can be stored, and is virtual where the loop is.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Instants for the shell: `now()`, and their place on the running loop."""

    epoch: float
    origin: float

    @classmethod
    def start(cls) -> "Clock":
        """Tie the loop's clock to the wall clock, once; needs a running loop."""
        return cls(time.time(), asyncio.get_running_loop().time())

    def now(self) -> float:
        return self.at(asyncio.get_running_loop().time())

    def at(self, loop_time: float) -> float:
        """The instant of a moment on the loop's own clock; for those who have the loop at hand."""
        return self.epoch + loop_time - self.origin

    def loop_time(self, at: float) -> float:
        """The loop's time for an instant, as `loop.call_at` takes it."""
        return at - self.epoch + self.origin


def stopwatch() -> float:
    """Seconds from some moment on, for latencies: finer than the loop's clock, which counts milliseconds."""
    return time.perf_counter()


def utc(at: float) -> datetime:
    """The instant as an aware datetime."""
    return datetime.fromtimestamp(at, UTC)


def iso(at: float) -> str:
    """ISO 8601 in UTC with milliseconds, as the API and `--json` write it."""
    return utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
