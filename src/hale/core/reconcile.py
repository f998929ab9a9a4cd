"""What to do about one deployment, from what is wanted and what is known. Pure.

The answer depends on the present alone: a wake that is lost or doubled, or a process that was killed
half-way, changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hale.core.deployment import Desired, Template
from hale.core.event import Event, Level
from hale.core.lifecycle import Facts, retire, settle
from hale.core.probe import ProbeKind
from hale.core.replica import LEAVING, Phase, Replica
from hale.core.rollout import plan_rollout
from hale.core.words import duration, outcome

_KEEP_SERVING = "the replicas before it keep serving"

KEPT = 10
"""Replicas of a deployment that are remembered after their end, with their logs."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start this attempt of the replica."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell when the replica has no more requests under way; it gets no new ones already."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Stop:
    """End the replica, by force after `grace` seconds."""

    replica: Replica
    grace: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop what is kept of a replica that ended long ago."""

    replica: Replica


Action = Launch | Drain | Stop | Forget


@dataclass(frozen=True, slots=True)
class Marks:
    """What has become of the newest revision; None: not yet.

    `progressed_at` is when one of its replicas last became ready for the first time, until it is healthy.
    """

    applied_at: float | None = None
    healthy_at: float | None = None
    error: str | None = None
    progressed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`replicas` are all of the deployment from now on; at `wake_at` time alone changes something."""

    replicas: tuple[Replica, ...]
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    marks: Marks = Marks()
    wake_at: float | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the newest revision is not prepared; `fatal`: it will not be unless somebody changes something.

    `why` is the whole of it, `brief` a few words for where the whole was told already.
    """

    why: str
    fatal: bool = False
    brief: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known: `replicas` with the `facts` about each, and the newest revision's `marks`.

    `templates` has that of every replica by its key. `new_id` names a new replica. `obstacle` is what its
    preparation met last (None: nothing yet).
    """

    replicas: Sequence[Replica]
    facts: Mapping[str, Facts]
    templates: Mapping[str, Template]
    marks: Marks
    new_id: Callable[[], str] = field(repr=False)
    obstacle: Obstacle | None = None


def reconcile(desired: Desired, observed: Observed, now: float) -> Plan:
    """Settle every replica, roll out as far as it goes now, then say what that asks for.

    A revision that is not prepared yet changes nothing: what there is goes on.
    """
    events: list[Event] = []
    replicas: list[Replica] = []
    for replica in observed.replicas:
        facts = observed.facts.get(replica.id, Facts())
        settled, happened = settle(replica, observed.templates[replica.template], facts, now)
        replicas.append(settled)
        events.extend(happened)
    if desired.prepared:
        replicas = _rolled_out(desired, observed, replicas, events, now)
        marks = _mark(desired, observed, replicas, events, now)
    else:
        marks = _mark_unprepared(desired, observed, replicas, events, now)
    actions = [action for replica in replicas if (action := _action(replica, observed, now))]
    actions.extend(_forgettable(replicas, observed))
    return Plan(
        tuple(replicas),
        tuple(actions),
        tuple(events),
        marks,
        _wake_at(desired, replicas, marks),
    )


def _rolled_out(
    desired: Desired, observed: Observed, replicas: list[Replica], events: list[Event], now: float
) -> list[Replica]:
    while (rolled := _roll(desired, observed, replicas, events, now)) != replicas:
        # One step may make room for the next: a replica that ended at once wakes nobody later.
        replicas = rolled
    return [_relabelled(replica, desired) for replica in replicas]


def _roll(
    desired: Desired, observed: Observed, replicas: list[Replica], events: list[Event], now: float
) -> list[Replica]:
    staying = [r for r in replicas if r.phase is not Phase.STOPPED and r.phase not in LEAVING]
    restarting = [r for r in replicas if r.phase in LEAVING and not r.retired]
    rollout = plan_rollout([*staying, *restarting], desired.template.key, desired.replicas, desired.strategy)
    reasons = {r.id: _replaced_reason(r, desired) for r in rollout.replaced}
    reasons |= {r.id: _surplus_reason(desired) for r in rollout.surplus}
    if desired.replicas == 0:
        reasons = dict.fromkeys(reasons, _surplus_reason(desired))
    rolled: list[Replica] = []
    for replica in replicas:
        if replica.id not in reasons:
            rolled.append(replica)
            continue
        template = observed.templates[replica.template]
        retired, event = retire(replica, template, reasons[replica.id], now)
        retired, happened = settle(retired, template, observed.facts.get(replica.id, Facts()), now)
        rolled.append(retired)
        events.extend((event, *happened))
    for _ in range(rollout.add):
        created = Replica(
            id=observed.new_id(),
            deployment_id=desired.deployment.id,
            revision=desired.revision,
            template=desired.template.key,
            created_at=now,
            since=now,
        )
        rolled.append(created)
        events.append(
            Event(
                now,
                "replica.created",
                f"created for revision {desired.revision}",
                desired.deployment.id,
                desired.revision,
                created.id,
                created.attempt,
                state="pending",
            )
        )
    return rolled


def _replaced_reason(replica: Replica, desired: Desired) -> str:
    if replica.revision == desired.revision:
        return "a restart was asked for"
    return f"replaced by revision {desired.revision}"


def _surplus_reason(desired: Desired) -> str:
    if desired.reason:
        return desired.reason
    return f"scaled to {desired.replicas}"


def _relabelled(replica: Replica, desired: Desired) -> Replica:
    """A kept replica belongs to the newest revision that it is alike with."""
    same = replica.template == desired.template.key and replica.phase is not Phase.STOPPED
    if same and replica.revision != desired.revision:
        return replace(replica, revision=desired.revision)
    return replica


def _mark(
    desired: Desired, observed: Observed, replicas: Sequence[Replica], events: list[Event], now: float
) -> Marks:
    deployment, marks = desired.deployment, observed.marks
    if marks.applied_at is None:
        # What went wrong before can only have been its preparation.
        marks = replace(marks, applied_at=now, error=None)
    marks = _progressed(desired, replicas, marks)
    ready = sum(r.phase is Phase.READY and r.template == desired.template.key for r in replicas)
    if marks.healthy_at is None and 0 < desired.replicas <= ready:
        marks = replace(marks, healthy_at=now, error=None)
        text = f"revision {desired.revision} is healthy: {ready} of {desired.replicas} replicas ready"
        events.append(Event(now, "revision.healthy", text, deployment.id, desired.revision))
    deadline = _deadline(desired, marks)
    if deadline is not None and now >= deadline:
        text = "; ".join(_failure(desired, observed, replicas, ready))
        marks = replace(marks, error=text)
        events.append(_failed(desired, text, now))
    return marks


def _mark_unprepared(
    desired: Desired, observed: Observed, replicas: Sequence[Replica], events: list[Event], now: float
) -> Marks:
    """A fatal obstacle is the revision's error at once, any other after the deadline; the newest counts."""
    marks, obstacle = observed.marks, observed.obstacle
    deadline = _deadline(desired, marks)
    if obstacle is not None and obstacle.fatal:
        error, within = obstacle.why, ""
    elif deadline is not None and now >= deadline:
        waited = duration(desired.strategy.progress_deadline)
        obstacle = obstacle or Obstacle("it is still under way")
        error = f"revision {desired.revision} is not prepared after {waited}: {obstacle.why}"
        within = f" within {waited}"
    else:
        return marks
    if marks.error is None:
        brief = obstacle.brief or obstacle.why
        text = f"revision {desired.revision} can't be prepared{within}: {brief}"
        serving = any(replica.phase is Phase.READY for replica in replicas)
        events.append(_failed(desired, f"{text}; {_KEEP_SERVING}" if serving else text, now))
    return replace(marks, error=error)


def _failed(desired: Desired, text: str, now: float) -> Event:
    return Event(now, "revision.failed", text, desired.deployment.id, desired.revision, level=Level.WARNING)


def _failure(desired: Desired, observed: Observed, replicas: Sequence[Replica], ready: int) -> Iterator[str]:
    """Why a revision counts as failed, and what that leads to."""
    waited = duration(desired.strategy.progress_deadline)
    yield (
        f"revision {desired.revision} is not healthy after {waited} without progress: "
        f"{ready} of {desired.replicas} replicas ready"
    )
    current = [replica for replica in replicas if replica.template == desired.template.key]
    if obstacle := next(filter(None, (_obstacle(r, observed.facts.get(r.id)) for r in current)), ""):
        yield obstacle
    if any(r.phase is Phase.READY for r in replicas if r.template != desired.template.key):
        yield _KEEP_SERVING


def _obstacle(replica: Replica, facts: Facts | None) -> str:
    """What the last check said that it waits for, or what its last end came from."""
    if replica.phase in (Phase.BACKOFF, Phase.PENDING):
        return f"last end: {replica.cause[0].message}" if replica.cause else ""
    kinds = {Phase.STARTING: ProbeKind.STARTUP, Phase.UNREADY: ProbeKind.READINESS}
    kind = kinds.get(replica.phase)
    health = facts.health.get(kind) if facts is not None and kind is not None else None
    return f"last {kind} answer: {outcome(health.last)}" if health is not None and health.last else ""


def _progressed(desired: Desired, replicas: Sequence[Replica], marks: Marks) -> Marks:
    """The marks with the newest progress: it stays made, whatever becomes of the replica that made it."""
    firsts = [
        r.first_ready_at
        for r in replicas
        if r.template == desired.template.key and r.first_ready_at is not None
    ]
    if marks.healthy_at is not None or not firsts:
        return marks
    return replace(marks, progressed_at=max([*firsts, marks.progressed_at or 0.0]))


def _deadline(desired: Desired, marks: Marks) -> float | None:
    """When the revision counts as failed, unless another of its replicas becomes ready before."""
    if marks.healthy_at is not None or marks.error is not None or desired.replicas == 0:
        return None
    return max(desired.since, marks.progressed_at or 0.0) + desired.strategy.progress_deadline


def _action(replica: Replica, observed: Observed, now: float) -> Action | None:
    match replica.phase:
        case Phase.PENDING:
            return Launch(replica)
        case Phase.DRAINING:
            return Drain(replica)
        case Phase.STOPPING:
            # Asked again, by the next daemon or after some trouble, it has what is left.
            asked = max(0.0, now - replica.since)
            return Stop(replica, max(0.0, observed.templates[replica.template].grace - asked))
        case Phase.STOPPED if _still_runs(observed.facts.get(replica.id)):
            # It was retired while it was being started.
            return Stop(replica, observed.templates[replica.template].grace)
        case _:
            return None


def _still_runs(facts: Facts | None) -> bool:
    return facts is not None and facts.run is not None and facts.run.exited_at is None


def _forgettable(replicas: Sequence[Replica], observed: Observed) -> list[Forget]:
    ended = sorted(
        (r for r in replicas if r.phase is Phase.STOPPED), key=lambda r: r.finished_at or 0.0, reverse=True
    )
    return [Forget(replica) for replica in ended[KEPT:] if not _still_runs(observed.facts.get(replica.id))]


def _wake_at(desired: Desired, replicas: Sequence[Replica], marks: Marks) -> float | None:
    times = [r.due_at for r in replicas if r.phase is Phase.BACKOFF and r.due_at is not None]
    times += [r.drain_until for r in replicas if r.phase is Phase.DRAINING and r.drain_until is not None]
    deadline = _deadline(desired, marks)
    if deadline is not None:
        times.append(deadline)
    return min(times) if times else None
