"""Probes and what is known from them. Pure: time arrives in results.

`record` is the rule of Kubernetes' prober worker (see docs/health-checks.md): a verdict
changes when the same outcome came `threshold` times in a row, and stands otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

HISTORY = 20
"""Results kept for each probe, newest first."""


class ProbeKind(StrEnum):
    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class Verdict(StrEnum):
    UNKNOWN = "unknown"
    PASSING = "passing"
    FAILING = "failing"


INITIAL_VERDICT: Mapping[ProbeKind, Verdict] = {
    # A replica gets no traffic before it is known ready, and is not restarted before it is
    # known dead: hence opposite starting points.
    ProbeKind.STARTUP: Verdict.UNKNOWN,
    ProbeKind.READINESS: Verdict.FAILING,
    ProbeKind.LIVENESS: Verdict.PASSING,
}


@dataclass(frozen=True, slots=True)
class HttpAction:
    """GET `path`; success is 200 <= status < 400 after redirects on the same host.

    `port` is a declared port of the deployment (None: its first one); `host` the address to
    dial instead of the replica's own.
    """

    path: str
    port: int | None = None
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ExecAction:
    """Run `command` in the replica's environment; success is exit code 0 within the timeout."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TcpAction:
    """Connect to a declared port (None: the first one); success is an accepted connection."""

    port: int | None = None


Action = HttpAction | ExecAction | TcpAction


@dataclass(frozen=True, slots=True)
class Probe:
    """A configured check. Durations are seconds; defaults are Gradient's (and Kubernetes')."""

    kind: ProbeKind
    action: Action
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One check's outcome. `at` is when it was begun, `latency` how long it took (seconds).

    `status` is the HTTP status, or the exit code of a command that `exited`; None if there was neither.
    `detail` is what a person needs to see (the first bytes of the answer, or why there was none). Of an
    eager result, and of the first check's, only a success counts. `warning` is set on a success with a
    catch.
    """

    at: float
    ok: bool
    latency: float = 0.0
    status: int | None = None
    detail: str = ""
    eager: bool = False
    warning: str = ""
    exited: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What is known from one probe: the verdict, the run of equal outcomes, the last results.

    `streak` counts the results of the last outcome in a row that count; `results` is newest first
    and at most HISTORY long.
    """

    verdict: Verdict
    streak: int = 0
    ok: bool | None = None
    results: tuple[ProbeResult, ...] = ()

    @classmethod
    def initial(cls, kind: ProbeKind) -> "Health":
        return cls(INITIAL_VERDICT[kind])

    @property
    def last(self) -> ProbeResult | None:
        return self.results[0] if self.results else None


def record(health: Health, result: ProbeResult, probe: Probe) -> Health:
    """Fold one result into the health; below its threshold the verdict stands."""
    results = (result, *health.results[: HISTORY - 1])
    if result.eager and not result.ok:
        return replace(health, results=results)
    streak = health.streak + 1 if health.ok == result.ok else 1
    threshold = probe.success_threshold if result.ok else probe.failure_threshold
    verdict = health.verdict
    if streak >= threshold:
        verdict = Verdict.PASSING if result.ok else Verdict.FAILING
    return Health(verdict, streak, result.ok, results)
