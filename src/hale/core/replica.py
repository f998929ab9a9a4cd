"""A replica, the phases of its life, and the only table of transitions. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hale.core.event import Cause


class Phase(StrEnum):
    """Where a replica is in its life."""

    PENDING = "pending"  # wanted, its process not started yet
    STARTING = "starting"  # running, startup not passed yet
    UNREADY = "unready"  # startup passed, no traffic
    READY = "ready"  # gets traffic
    DRAINING = "draining"  # gets no more requests, finishes the old
    STOPPING = "stopping"  # asked to end, by force after the grace period
    BACKOFF = "backoff"  # ended, waits for its next start
    STOPPED = "stopped"  # over for good


class Trigger(StrEnum):
    """What moves a replica from one phase to another."""

    LAUNCHED = "launched"
    STARTUP_PASSED = "startup passed"
    BECAME_READY = "became ready"
    BECAME_UNREADY = "became unready"
    RELEASED = "released"  # told to leave traffic: retired, or a check says restart
    DRAINED = "drained"
    EXITED = "exited"  # ended, and is to be started again
    DUE = "due"  # the back-off is over
    ENDED = "ended"  # ended, and is not to be started again


TRANSITIONS: Mapping[Phase, Mapping[Trigger, Phase]] = {
    Phase.PENDING: {
        Trigger.LAUNCHED: Phase.STARTING,
        Trigger.EXITED: Phase.BACKOFF,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.STARTING: {
        Trigger.STARTUP_PASSED: Phase.UNREADY,
        Trigger.RELEASED: Phase.DRAINING,
        Trigger.EXITED: Phase.BACKOFF,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.UNREADY: {
        Trigger.BECAME_READY: Phase.READY,
        Trigger.RELEASED: Phase.DRAINING,
        Trigger.EXITED: Phase.BACKOFF,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.READY: {
        Trigger.BECAME_UNREADY: Phase.UNREADY,
        Trigger.RELEASED: Phase.DRAINING,
        Trigger.EXITED: Phase.BACKOFF,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.DRAINING: {
        Trigger.DRAINED: Phase.STOPPING,
        Trigger.EXITED: Phase.BACKOFF,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.STOPPING: {
        Trigger.EXITED: Phase.BACKOFF,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.BACKOFF: {
        Trigger.DUE: Phase.PENDING,
        Trigger.ENDED: Phase.STOPPED,
    },
    Phase.STOPPED: {},
}

RUNNING = frozenset({Phase.STARTING, Phase.UNREADY, Phase.READY, Phase.DRAINING, Phase.STOPPING})
"""Phases in which the engine holds a live instance of the replica."""

LEAVING = frozenset({Phase.DRAINING, Phase.STOPPING})


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a revision, across its attempts (an attempt is one run of it).

    `id` is the instance id of the REST API. `attempt` counts from 1, `restarts` from 0. `failures` is
    the number of ends in a row that the back-off counts. All `_at` are instants or None: `started_at`
    of this attempt, `passed_at` when its startup passed, `ready_at` since when it is ready (None: it is
    not), `first_ready_at` when this attempt first was, `due_at` when the back-off ends, `drain_until` when
    draining is broken off. `retired` says that it will not be started again. `cause` is why it leaves or
    what its last restart came from, the first thing first.
    """

    id: str
    deployment_id: str
    revision: int
    template: str
    created_at: float
    phase: Phase = Phase.PENDING
    since: float = 0.0
    attempt: int = 1
    restarts: int = 0
    failures: int = 0
    started_at: float | None = None
    passed_at: float | None = None
    ready_at: float | None = None
    first_ready_at: float | None = None
    due_at: float | None = None
    drain_until: float | None = None
    finished_at: float | None = None
    retired: bool = False
    cause: Cause = ()


class IllegalTransitionError(Exception):
    """A trigger that the phase does not know: a mistake in hale itself."""


def advance(replica: Replica, trigger: Trigger, now: float) -> Replica:
    """The replica in the phase that the trigger leads to; only the table decides."""
    to = TRANSITIONS[replica.phase].get(trigger)
    if to is None:
        raise IllegalTransitionError(f"replica {replica.id} is {replica.phase}: it can't be {trigger}")
    return replace(replica, phase=to, since=now)
