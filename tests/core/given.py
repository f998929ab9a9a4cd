"""Short ways to say what is given: probes, healths from strings of answers, replicas in a phase."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hypothesis import settings

from hale.core.deployment import Deployment, Desired, Strategy, Template
from hale.core.event import Cause
from hale.core.lifecycle import Facts, Run
from hale.core.probe import Health, HttpAction, Probe, ProbeKind, ProbeResult, Verdict, record
from hale.core.replica import LEAVING, Phase, Replica

PATIENT = settings(deadline=None)
"""Properties do not depend on a fast machine."""

STARTUP, READINESS, LIVENESS = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS
LETTERS = {Verdict.UNKNOWN: "U", Verdict.PASSING: "P", Verdict.FAILING: "F"}


def probe(
    kind: ProbeKind | str = READINESS,
    *,
    failures: int = 3,
    successes: int = 1,
    period: float = 10.0,
    delay: float = 0.0,
    timeout: float = 1.0,
) -> Probe:
    return Probe(ProbeKind(kind), HttpAction("/"), delay, period, timeout, failures, successes)


def answer(letter: str, at: float = 0.0) -> ProbeResult:
    """`+` and `-` count; `*` and `.` are eager: seen between the ticks."""
    ok = letter in "+*"
    return ProbeResult(at, ok, 0.004, 200 if ok else 503, "fine" if ok else "no model", letter in "*.")


def healths(asked: Probe, answers: str, health: Health | None = None) -> Iterator[Health]:
    """The health after each answer; they come a second apart."""
    health = health or Health.initial(asked.kind)
    for at, letter in enumerate(answers):
        health = record(health, answer(letter, float(at)), asked)
        yield health


def after(asked: Probe, answers: str) -> Health:
    return [Health.initial(asked.kind), *healths(asked, answers)][-1]


def verdicts(asked: Probe, answers: str) -> str:
    return "".join(LETTERS[health.verdict] for health in healths(asked, answers))


def template(key: str = "new", *probes: Probe, **others: object) -> Template:
    """A template with these probes; without any, readiness alone, as every template has a way to ready."""
    asked = {one.kind: one for one in probes or (probe(READINESS),)}
    return replace(Template(key, probes=asked), **others)  # type: ignore[arg-type]


def replica(phase: Phase = Phase.PENDING, **others: object) -> Replica:
    """A replica as it is in this phase, started and passed at 0 where it has been."""
    given: dict[str, object] = {}
    if phase not in (Phase.PENDING, Phase.BACKOFF):
        given["started_at"] = 0.0
    if phase in (Phase.UNREADY, Phase.READY):
        given["passed_at"] = 0.0
    if phase is Phase.READY:
        given |= {"ready_at": 0.0, "first_ready_at": 0.0}
    if phase is Phase.BACKOFF:
        given["due_at"] = 10.0
    if phase in LEAVING:
        given["drain_until"] = 30.0
    if phase is Phase.STOPPED:
        given |= {"finished_at": 0.0, "retired": True}
    first = Replica("r1", "d1", 1, "new", 0.0, phase)
    return replace(first, **(given | others))  # type: ignore[arg-type]


def running(attempt: int = 1, *, drained: bool = False, **health: Health) -> Facts:
    """The attempt runs; `readiness=...` is what its check knows."""
    return Facts(Run(attempt, 0.0), health=by_kind(health), drained=drained)


def exited(at: float, code: int | None = 1, *, attempt: int = 1, started_at: float = 0.0) -> Facts:
    return Facts(Run(attempt, started_at, at, code))


def by_kind(health: Mapping[str, Health]) -> Mapping[ProbeKind, Health]:
    return {ProbeKind(kind): one for kind, one in health.items()}


def desired(
    replicas: int = 1,
    wanted: Template | None = None,
    *,
    revision: int = 1,
    strategy: Strategy | None = None,
    since: float = 0.0,
    reason: str = "",
    prepared: bool = True,
) -> Desired:
    deployment = Deployment("d1", "p1", "web", "web", 0.0)
    return Desired(
        deployment,
        revision,
        wanted or template(),
        replicas,
        strategy or Strategy(),
        since=since,
        reason=reason,
        prepared=prepared,
    )


def told(cause: Cause) -> list[str]:
    """A cause as a person reads it, one link a line."""
    return [f"{link.at:g} {link.kind}: {link.message}" for link in cause]
