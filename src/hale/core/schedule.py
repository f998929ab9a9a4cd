"""When a probe is due. Pure.

Ticks fall at `first + n * period` whatever is seen between them. The check at `first` and the eager
ones between the ticks can only succeed, so the N-th failure that counts falls at `first + N * period`.
"""

import math
import zlib

from hale.core.probe import Probe, ProbeKind

_EAGER_FIRST = 0.1
_EAGER_SHARE = 0.02
_ROUNDING = 1e-3
"""A share of the period: instants near the epoch have steps of a quarter of a microsecond."""


def first_due(probe: Probe, *, started_at: float, passed_at: float | None) -> float:
    """The first check of an attempt: when startup has passed, and the initial delay is over."""
    own = started_at + probe.initial_delay
    if probe.kind is ProbeKind.STARTUP or passed_at is None:
        return own
    return max(own, passed_at)


def next_tick(first: float, period: float, now: float) -> float:
    """The first tick after `now`; `first` itself is not one."""
    if now < first:
        return first + period
    # A tick that was served a rounding error early is not served again.
    ticks = math.floor((now - first) / period + _ROUNDING) + 1
    return first + ticks * period


def eager_pause(waited: float) -> float:
    """Seconds until the next eager check, `waited` seconds after the first: 100 ms, slower with time."""
    return max(_EAGER_FIRST, waited * _EAGER_SHARE)


def spread(replica_id: str, kind: ProbeKind, period: float) -> float:
    """A fixed place for this probe within its period, so that many replicas are not checked at one moment."""
    return period * (zlib.crc32(f"{replica_id}/{kind}".encode()) / 2**32)
