"""One replica's life: what facts about it lead to. Pure.

`settle` is used twice: in a deployment's turn, and in the short way from a check's answer to the balancer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hale.core.deployment import Template
from hale.core.event import Cause, Event, Level, Link
from hale.core.probe import Health, Probe, ProbeKind, Verdict
from hale.core.replica import LEAVING, RUNNING, Phase, Replica, Trigger, advance
from hale.core.words import duration, ending, outcome

RESTART_DRAIN = 5.0
"""Seconds that a replica is given to finish its requests before a restart that a check asked for."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the engine knows of the replica's attempt: running, or exited at `exited_at`."""

    attempt: int
    started_at: float
    exited_at: float | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one replica. `refused` is why the engine could not start this attempt."""

    run: Run | None = None
    refused: str | None = None
    health: Mapping[ProbeKind, Health] = field(default_factory=dict)
    drained: bool = False


Step = tuple[Replica, Event]


def settle(
    replica: Replica, template: Template, facts: Facts, now: float
) -> tuple[Replica, tuple[Event, ...]]:
    """The replica as the facts have it, and what happened on the way, in order."""
    events: list[Event] = []
    while step := _step(replica, template, facts, now):
        if step[0].attempt != replica.attempt:
            # What was found out about one attempt says nothing about the next.
            facts = Facts(facts.run)
        replica, event = step
        events.append(event)
    return replica, tuple(events)


def retire(replica: Replica, template: Template, reason: str, now: float) -> Step:
    """Take the replica out of traffic for good; it ends once its requests are finished."""
    cause = (Link("retire", now, reason),)
    text = f"leaves traffic: {reason}" if replica.phase is Phase.READY else f"is to end: {reason}"
    if replica.phase not in RUNNING:
        replica = replace(advance(replica, Trigger.ENDED, now), retired=True, cause=cause, finished_at=now)
        return replica, _event(replica, now, "replica.stopped", f"ended: {reason}", state="stopped")
    if replica.phase not in LEAVING:
        replica = replace(
            advance(replica, Trigger.RELEASED, now), drain_until=now + template.drain, cause=cause
        )
    else:
        replica = replace(replica, cause=(*replica.cause, *cause))
    replica = replace(replica, retired=True, ready_at=None)
    return replica, _event(replica, now, "replica.retired", text, state="stopping")


def _step(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    match replica.phase:
        case Phase.PENDING:
            return _pending(replica, template, facts, now)
        case Phase.BACKOFF:
            return _due(replica, template, facts, now)
        case Phase.STOPPED:
            return None
        case _:
            return _running(replica, template, facts, now)


def _running(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    if facts.run is None or facts.run.attempt != replica.attempt:
        # Somebody took it away, or its record was lost; or hale went on while it could not write.
        text = "its end was not written down" if _ahead(facts.run, replica) else "gone without a trace"
        return _ended(replica, template, Link("exit", now, text), now, now)
    if facts.run.exited_at is not None:
        return _exited(replica, template, facts.run, now)
    match replica.phase:
        case Phase.STARTING:
            return _starting(replica, template, facts, now)
        case Phase.UNREADY | Phase.READY:
            return _serving(replica, template, facts, now)
        case Phase.DRAINING:
            return _draining(replica, template, facts, now)
        case _:
            return None


def _pending(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    run = facts.run
    if run is not None and run.attempt >= replica.attempt:
        replica = _numbered(replica, run.attempt)
        cause = replica.cause
        if replica.restarts:
            cause = (*cause, Link("start", run.started_at, f"attempt {replica.attempt} started"))
        replica = replace(advance(replica, Trigger.LAUNCHED, now), started_at=run.started_at, cause=cause)
        return replica, _event(replica, now, "replica.started", "started", state="pending")
    if facts.refused is not None:
        link = Link("start", now, facts.refused)
        replica = _back_off(replica, template, (link,), now, now)
        return replica, _event(
            replica, now, "replica.start_failed", facts.refused, level=Level.WARNING, state="errored"
        )
    return None


def _due(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    ahead = _ahead(facts.run, replica)
    if not ahead and not _over(replica.due_at, template.backoff.maximum, now):
        return None
    # Attempts of a replica never go back: the engine knows them by their numbers.
    attempt = facts.run.attempt if ahead and facts.run is not None else replica.attempt + 1
    replica = replace(
        _numbered(advance(replica, Trigger.DUE, now), attempt),
        started_at=None,
        passed_at=None,
        first_ready_at=None,
        due_at=None,
        drain_until=None,
    )
    return replica, _event(replica, now, "replica.restarting", f"restart {replica.restarts}")


def _ahead(run: Run | None, replica: Replica) -> bool:
    """Whether the engine had a later attempt than we remember: the Store could not keep up."""
    return run is not None and run.attempt > replica.attempt


def _numbered(replica: Replica, attempt: int) -> Replica:
    return replace(replica, attempt=attempt, restarts=replica.restarts + attempt - replica.attempt)


def _over(at: float | None, longest: float, now: float) -> bool:
    """Whether the instant has come, or lies too far ahead: then the clock was set back since it was set."""
    # A second is for rounding.
    return at is None or not 0.0 < at - now <= longest + 1.0


def _starting(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    probe = template.probes.get(ProbeKind.STARTUP)
    health = facts.health.get(ProbeKind.STARTUP)
    if probe is not None and (health is None or health.verdict is Verdict.UNKNOWN):
        return None
    if probe is not None and health is not None and health.verdict is Verdict.FAILING:
        return _restart(replica, template, probe, health, now)
    replica = replace(advance(replica, Trigger.STARTUP_PASSED, now), passed_at=now)
    took = duration(now - (replica.started_at or now))
    text = f"startup passed after {took}" if probe else "running, not ready yet"
    return replica, _event(replica, now, "replica.startup_passed", text)


def _serving(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    probe = template.probes.get(ProbeKind.LIVENESS)
    health = facts.health.get(ProbeKind.LIVENESS)
    if probe is not None and health is not None and health.verdict is Verdict.FAILING:
        return _restart(replica, template, probe, health, now)
    readiness = facts.health.get(ProbeKind.READINESS)
    # A template always has a readiness probe, unless its startup probe alone says when it is ready.
    ready = ProbeKind.READINESS not in template.probes or (
        readiness is not None and readiness.verdict is Verdict.PASSING
    )
    if ready and replica.phase is Phase.UNREADY:
        first = replica.first_ready_at if replica.first_ready_at is not None else now
        replica = replace(advance(replica, Trigger.BECAME_READY, now), ready_at=now, first_ready_at=first)
        text = "ready, gets traffic"
        if first == now and replica.started_at is not None:
            text = f"ready {duration(now - replica.started_at)} after its start, gets traffic"
        return replica, _event(replica, now, "replica.ready", text, state="healthy")
    if not ready and replica.phase is Phase.READY:
        replica = replace(advance(replica, Trigger.BECAME_UNREADY, now), ready_at=None)
        cause: Cause = ()
        if readiness is not None:
            cause = (_check_link(template.probes[ProbeKind.READINESS], readiness, now),)
        text = "not ready, gets no traffic" + (f": {cause[0].message}" if cause else "")
        return replica, _event(
            replica, now, "replica.unready", text, level=Level.WARNING, state="unhealthy", cause=cause
        )
    return None


def _draining(replica: Replica, template: Template, facts: Facts, now: float) -> Step | None:
    over = replica.drain_until is not None and _over(replica.drain_until, template.drain, now)
    # Of a replica that never had traffic there is nothing to wait for.
    if not (facts.drained or over or replica.first_ready_at is None):
        return None
    replica = advance(replica, Trigger.DRAINED, now)
    left = over and not facts.drained and replica.first_ready_at is not None
    text = "asked to end" + (", though requests were still under way" if left else "")
    replica = replace(replica, cause=(*replica.cause, Link("stop", now, text)))
    return replica, _event(
        replica,
        now,
        "replica.stopping",
        text,
        level=Level.WARNING if left else Level.NORMAL,
        state="stopping",
    )


def _restart(replica: Replica, template: Template, probe: Probe, health: Health, now: float) -> Step:
    """Out of traffic first; what follows is a stop, and a start after the back-off."""
    link = _check_link(probe, health, now)
    replica = replace(
        advance(replica, Trigger.RELEASED, now),
        ready_at=None,
        drain_until=now + min(RESTART_DRAIN, template.drain),
        cause=(link,),
    )
    return replica, _event(
        replica,
        now,
        "replica.failed_check",
        f"will be restarted: {link.message}",
        level=Level.WARNING,
        state="errored",
        cause=replica.cause,
    )


def _exited(replica: Replica, template: Template, run: Run, now: float) -> Step:
    at = run.exited_at if run.exited_at is not None else now
    ran_for = duration(at - run.started_at)
    text = ending(run.exit_code, ran_for, out_of_memory=run.out_of_memory, removed=run.removed)
    return _ended(replica, template, Link("exit", at, text), at, now)


def _ended(replica: Replica, template: Template, link: Link, at: float, now: float) -> Step:
    wanted = replica.phase in LEAVING
    cause = (*replica.cause, link) if wanted else (link,)
    if replica.retired:
        replica = replace(advance(replica, Trigger.ENDED, now), ready_at=None, finished_at=at, cause=cause)
        return replica, _event(replica, now, "replica.stopped", link.message, state="stopped", cause=cause)
    replica = _back_off(replica, template, cause, at, now)
    return replica, _event(
        replica,
        now,
        "replica.exited",
        f"{link.message}; {replica.cause[-1].message}",
        level=Level.WARNING,
        state="errored",
        cause=replica.cause,
    )


def _back_off(replica: Replica, template: Template, cause: Cause, at: float, now: float) -> Replica:
    ran_well = at - replica.passed_at if replica.passed_at is not None else 0.0
    failures = template.backoff.failures_after(replica.failures, ran_well)
    delay = template.backoff.delay(failures)
    due_at = at + delay
    when = f"in {duration(delay)}" if due_at > now else "at once"
    text = f"restart {replica.restarts + 1} {when}"
    return replace(
        advance(replica, Trigger.EXITED, now),
        ready_at=None,
        failures=failures,
        due_at=due_at,
        cause=(*cause, Link("back-off", now, text)),
    )


def _check_link(probe: Probe, health: Health, now: float) -> Link:
    last = health.last
    said = f": {outcome(last)}" if last is not None else ""
    return Link(
        "check",
        last.at if last is not None else now,
        f"{probe.kind} check failed {health.streak} of {probe.failure_threshold}{said}",
    )


def _event(
    replica: Replica,
    now: float,
    type_: str,
    message: str,
    *,
    level: Level = Level.NORMAL,
    state: str = "",
    cause: Cause = (),
) -> Event:
    return Event(
        at=now,
        type=type_,
        message=message,
        deployment_id=replica.deployment_id,
        revision=replica.revision,
        replica_id=replica.id,
        attempt=replica.attempt,
        level=level,
        state=state,
        cause=cause,
    )
