"""What happens to a replica next, in words and when. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from hale.core.deployment import Template
from hale.core.probe import Health, Probe, ProbeKind
from hale.core.replica import Phase, Replica


@dataclass(frozen=True, slots=True)
class Next:
    """`action` is start, restart, check, unroute, stop or kill; `at` is None if only a result will tell."""

    action: str
    at: float | None
    reason: str


def outlook(
    replica: Replica,
    template: Template,
    health: Mapping[ProbeKind, Health],
    ticks: Mapping[ProbeKind, float],
) -> Next | None:
    """The next thing that is going to happen if nothing changes; None when it is well and stays so."""
    match replica.phase:
        case Phase.PENDING:
            return Next("start", None, f"attempt {replica.attempt} is being started")
        case Phase.STARTING:
            return _starting(template, health, ticks)
        case Phase.UNREADY | Phase.READY:
            return _serving(replica, template, health, ticks)
        case Phase.DRAINING:
            return Next("stop", replica.drain_until, "finishes the requests under way")
        case Phase.STOPPING:
            return Next("kill", replica.since + template.grace, "was asked to end")
        case Phase.BACKOFF:
            return Next("restart", replica.due_at, f"restart {replica.restarts + 1}")
        case _:
            return None


def _starting(
    template: Template, health: Mapping[ProbeKind, Health], ticks: Mapping[ProbeKind, float]
) -> Next | None:
    probe = template.probes.get(ProbeKind.STARTUP)
    if probe is None:
        return None
    failures = _failures(health.get(ProbeKind.STARTUP))
    at = _decided_at(probe, failures, ticks)
    return Next("restart", at, f"{failures} of {probe.failure_threshold} startup failures")


def _serving(
    replica: Replica,
    template: Template,
    health: Mapping[ProbeKind, Health],
    ticks: Mapping[ProbeKind, float],
) -> Next | None:
    liveness = template.probes.get(ProbeKind.LIVENESS)
    failures = _failures(health.get(ProbeKind.LIVENESS))
    if liveness is not None and failures:
        at = _decided_at(liveness, failures, ticks)
        return Next("restart", at, f"{failures} of {liveness.failure_threshold} liveness failures")
    readiness = template.probes.get(ProbeKind.READINESS)
    if readiness is None:
        return None
    if replica.phase is Phase.UNREADY:
        return Next("check", ticks.get(ProbeKind.READINESS), "not ready until the readiness check passes")
    failures = _failures(health.get(ProbeKind.READINESS))
    if not failures:
        return None
    at = _decided_at(readiness, failures, ticks)
    return Next("unroute", at, f"{failures} of {readiness.failure_threshold} readiness failures")


def _failures(health: Health | None) -> int:
    return health.streak if health is not None and health.ok is False else 0


def _decided_at(probe: Probe, failures: int, ticks: Mapping[ProbeKind, float]) -> float | None:
    """When the last failure that is needed would be begun."""
    due = ticks.get(probe.kind)
    if due is None:
        return None
    return due + (max(probe.failure_threshold - failures, 1) - 1) * probe.period
