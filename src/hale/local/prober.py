"""Keeps the probes of live replicas going and folds what they find.

Nothing is decided here but when to look (core.schedule) and what a result means (core.probe.record).
All on the loop's timers: no task and no wait per probe.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from hale.clock import Clock
from hale.core.deployment import Template
from hale.core.probe import Health, Probe, ProbeKind, ProbeResult, Verdict, record
from hale.core.replica import Replica
from hale.core.schedule import eager_pause, first_due, next_tick, spread
from hale.local.checks import Target


class Begin(Protocol):
    """Checker.begin: one check, one report, unless the returned cancel is called first."""

    def __call__(
        self,
        probe: Probe,
        target: Target,
        report: Callable[[ProbeResult], None],
        *,
        eager: bool = False,
    ) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a replica's probe, and the health before and after it."""

    replica_id: str
    attempt: int
    probe: Probe
    result: ProbeResult
    before: Health
    after: Health

    @property
    def turned(self) -> bool:
        return self.before.verdict is not self.after.verdict


@dataclass(slots=True)
class _Watch:
    """One probe of one attempt. `first` is where its ticks are counted from."""

    probe: Probe
    health: Health
    first: float
    eager: bool
    resumed: bool = False
    due: float = 0.0
    cancel: Callable[[], None] | None = None
    checking_tick: bool = False
    owed: bool = False
    tick: asyncio.TimerHandle | None = None
    peek: asyncio.TimerHandle | None = None

    def halt(self) -> None:
        for timer in (self.tick, self.peek):
            if timer is not None:
                timer.cancel()
        if self.cancel is not None:
            self.cancel()
        self.tick = self.peek = self.cancel = None


@dataclass(slots=True)
class _Watched:
    """One attempt of a replica and its probes; readiness and liveness are there once startup has passed."""

    replica_id: str
    attempt: int
    started_at: float
    target: Target
    template: Template
    seen_ready: bool
    watches: dict[ProbeKind, _Watch] = field(default_factory=dict)


class Prober:
    """Watches attempts of replicas; `report` is called on the loop with each finding, before any other check.

    `watch` begins or goes on with one attempt, `halt` ends its checks but keeps what is known of it,
    `forget` drops that too.
    """

    def __init__(self, clock: Clock, begin: Begin, report: Callable[[Finding], None]) -> None:
        self._clock = clock
        self._begin = begin
        self._report = report
        self._watched: dict[str, _Watched] = {}

    def watch(
        self,
        replica: Replica,
        target: Target,
        template: Template,
        health: Mapping[ProbeKind, Health] | None = None,
    ) -> None:
        """Check this attempt from now on; verdicts in `health` (of a daemon before this one) stand."""
        known = self._watched.get(replica.id)
        if known is not None and known.attempt == replica.attempt:
            return
        self.forget(replica.id)
        # A start in the future was before the clock was set back: delays count from now at the latest.
        now = self._clock.now()
        started_at = min(replica.started_at if replica.started_at is not None else now, now)
        watched = _Watched(
            replica.id, replica.attempt, started_at, target, template, replica.first_ready_at is not None
        )
        self._watched[replica.id] = watched
        startup = template.probes.get(ProbeKind.STARTUP)
        if startup is None:
            self._pass_startup(watched, started_at, health)
            return
        before = (health or {}).get(ProbeKind.STARTUP, Health.initial(ProbeKind.STARTUP))
        watch = _Watch(
            startup, before, first_due(startup, started_at=started_at, passed_at=None), template.eager
        )
        watched.watches[ProbeKind.STARTUP] = watch
        if before.verdict is Verdict.PASSING:
            self._pass_startup(watched, replica.passed_at or started_at, health)
        elif before.verdict is Verdict.UNKNOWN:
            self._begin_watch(watched, watch)

    def halt(self, replica_id: str) -> None:
        watched = self._watched.get(replica_id)
        for watch in watched.watches.values() if watched else ():
            watch.halt()

    def forget(self, replica_id: str) -> None:
        self.halt(replica_id)
        self._watched.pop(replica_id, None)

    def close(self) -> None:
        """End all checks; what is known can still be asked."""
        for replica_id in self._watched:
            self.halt(replica_id)

    def health(self, replica_id: str, attempt: int) -> Mapping[ProbeKind, Health]:
        """What is known from each probe of this attempt; those not begun yet are at their start."""
        watched = self._watched.get(replica_id)
        if watched is None or watched.attempt != attempt:
            return {}
        return {
            kind: watched.watches[kind].health if kind in watched.watches else Health.initial(kind)
            for kind in watched.template.probes
        }

    def ticks(self, replica_id: str) -> Mapping[ProbeKind, float]:
        """When each probe that is going on is due next, eager looks aside."""
        watched = self._watched.get(replica_id)
        return {
            kind: watch.due or watch.first
            for kind, watch in (watched.watches.items() if watched else ())
            if watch.tick is not None
        }

    def _pass_startup(
        self, watched: _Watched, passed_at: float, health: Mapping[ProbeKind, Health] | None = None
    ) -> None:
        for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS):
            probe = watched.template.probes.get(kind)
            if probe is None:
                continue
            first = first_due(probe, started_at=watched.started_at, passed_at=passed_at)
            eager = watched.template.eager and kind is ProbeKind.READINESS and not watched.seen_ready
            watch = _Watch(probe, Health.initial(kind), first, eager)
            if health is not None and kind in health:
                # Another daemon checked before us: go on at this probe's own place in the period.
                watch.health = health[kind]
                watch.resumed = True
                watch.first = max(
                    first, self._clock.now() - probe.period + spread(watched.replica_id, kind, probe.period)
                )
            watched.watches[kind] = watch
            held = kind is ProbeKind.LIVENESS and watch.health.verdict is Verdict.FAILING
            if not held:
                self._begin_watch(watched, watch)

    def _begin_watch(self, watched: _Watched, watch: _Watch) -> None:
        now = self._clock.now()
        if now > watch.first:
            # Late, or taken over: the ticks keep their phase; what came before is not made up for.
            self._arm_tick(watched, watch)
            self._arm_peek(watched, watch)
            if not watch.resumed and watch.cancel is None:
                self._check(watched, watch, eager=True)
        elif now == watch.first:
            self._first(watched, watch)
        else:
            watch.tick = self._at(watch.first, self._first, watched, watch)

    def _first(self, watched: _Watched, watch: _Watch) -> None:
        self._arm_tick(watched, watch)
        self._check(watched, watch, eager=True)

    def _arm_tick(self, watched: _Watched, watch: _Watch) -> None:
        # A timer may fire a little early: the tick that it stood for is over all the same.
        served = max(self._clock.now(), watch.due)
        watch.due = next_tick(watch.first, watch.probe.period, served)
        watch.tick = self._at(watch.due, self._tick, watched, watch)

    def _arm_peek(self, watched: _Watched, watch: _Watch) -> None:
        if not watch.eager:
            return
        now = self._clock.now()
        pause = eager_pause(now - watch.first)
        if now + pause < watch.due:
            watch.peek = self._at(now + pause, self._peek, watched, watch)

    def _at(
        self, at: float, call: Callable[[_Watched, _Watch], None], watched: _Watched, watch: _Watch
    ) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(self._clock.loop_time(at), call, watched, watch)

    def _tick(self, watched: _Watched, watch: _Watch) -> None:
        self._arm_tick(watched, watch)
        if watch.cancel is not None and watch.checking_tick:
            # Checks of one probe never overlap: this one begins when the slow one before it ends.
            watch.owed = True
            return
        if watch.cancel is not None:
            watch.cancel()
        self._check(watched, watch, eager=False)

    def _peek(self, watched: _Watched, watch: _Watch) -> None:
        watch.peek = None
        if watch.cancel is None and watch.eager:
            self._check(watched, watch, eager=True)

    def _check(self, watched: _Watched, watch: _Watch, *, eager: bool) -> None:
        if watch.peek is not None:
            watch.peek.cancel()
            watch.peek = None
        watch.checking_tick = not eager
        watch.cancel = self._begin(
            watch.probe,
            watched.target,
            lambda result: self._found(watched, watch, result),
            eager=eager,
        )

    def _found(self, watched: _Watched, watch: _Watch, result: ProbeResult) -> None:
        watch.cancel = None
        if result.warning and not result.ok:
            # Trouble of the prober's own says nothing about the replica: shown, not counted.
            result = replace(result, eager=True)
        before = watch.health
        watch.health = record(before, result, watch.probe)
        finding = Finding(watched.replica_id, watched.attempt, watch.probe, result, before, watch.health)
        if finding.turned:
            self._turned(watched, watch)
        elif watch.tick is not None:
            self._go_on(watched, watch)
        self._report(finding)

    def _go_on(self, watched: _Watched, watch: _Watch) -> None:
        if watch.owed:
            watch.owed = False
            self._check(watched, watch, eager=False)
        else:
            self._arm_peek(watched, watch)

    def _turned(self, watched: _Watched, watch: _Watch) -> None:
        """A verdict changed: startup is over either way, a dead replica is not looked at again."""
        passing = watch.health.verdict is Verdict.PASSING
        match watch.probe.kind:
            case ProbeKind.STARTUP:
                watch.halt()
                if passing:
                    self._pass_startup(watched, self._clock.now())
            case ProbeKind.LIVENESS if not passing:
                watch.halt()
            case ProbeKind.READINESS if passing:
                watch.eager = False
                watched.seen_ready = True
                self._go_on(watched, watch)
            case _:
                self._go_on(watched, watch)
