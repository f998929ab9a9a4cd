"""The prober in virtual time: when it looks, what it counts, and that it stops when told.

Replicas are functions of time: what a check begun at an instant would find.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.clock import Clock
from hale.core.deployment import Template
from hale.core.lifecycle import Facts, Run, retire, settle
from hale.core.probe import Health, Probe, ProbeKind, ProbeResult, Verdict
from hale.core.replica import Phase, Replica
from hale.core.schedule import spread
from hale.local.checks import Target
from hale.local.prober import Finding, Prober
from tests.conftest import AutojumpLoop
from tests.core.given import LIVENESS, PATIENT, READINESS, STARTUP, after, probe, replica, template

Answer = bool | str
"""What a check finds: good, bad, or the prober's own trouble."""
Answers = Callable[[float], Answer]


def always(_: float) -> bool:
    return True


def never(_: float) -> bool:
    return False


def from_(at: float) -> Answers:
    return lambda now: now >= at


def until(at: float) -> Answers:
    return lambda now: now < at


@dataclass
class World:
    """A prober, and what it asks. `takes` is how long answers take, by kind."""

    answers: Mapping[ProbeKind, Answers] = field(default_factory=dict)
    takes: Mapping[ProbeKind, float] = field(default_factory=dict)
    epoch: float = 0.0
    begun: list[tuple[str, ProbeKind, float, bool]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    open: dict[tuple[str, ProbeKind], asyncio.TimerHandle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = Clock(self.epoch, self.loop.time())
        self.prober = Prober(self.clock, self.begin, self.findings.append)

    def begin(
        self, asked: Probe, target: Target, report: Callable[[ProbeResult], None], *, eager: bool = False
    ) -> Callable[[], None]:
        key, now = (target.replica_id, asked.kind), self.clock.now()
        assert key not in self.open, "checks of one probe overlap"
        self.begun.append((*key, round(now - self.epoch, 3), eager))
        takes = self.takes.get(asked.kind, 0.0)
        found = self.answers.get(asked.kind, always)(now - self.epoch) if takes <= asked.timeout else False
        result = ProbeResult(
            now, found is True, takes, eager=eager, warning=found if isinstance(found, str) else ""
        )

        def answer() -> None:
            del self.open[key]
            report(result)

        def cancel() -> None:
            timer = self.open.pop(key, None)
            if timer is not None:
                timer.cancel()

        self.open[key] = self.loop.call_later(min(takes, asked.timeout), answer)
        return cancel

    def watch(
        self, *probes: Probe, health: Mapping[ProbeKind, Health] | None = None, **others: object
    ) -> None:
        """Watch a replica with these probes, that started now unless told otherwise."""
        eager = bool(others.pop("eager", True))
        started = replica(Phase.STARTING, **{"started_at": self.epoch + self.loop.time(), **others})
        self.prober.watch(started, target(started.id), template("new", *probes, eager=eager), health)

    def ticks(self, kind: ProbeKind, replica_id: str = "r1") -> list[float]:
        return [at for one, of, at, eager in self.begun if (one, of, eager) == (replica_id, kind, False)]

    def looks(self, kind: ProbeKind) -> list[float]:
        return [at for _, of, at, eager in self.begun if of is kind and eager]

    def turns(self) -> list[tuple[float, str]]:
        """When verdicts turned, and to what; an answer comes when its check began and what it took."""
        return [
            (round(f.result.at - self.epoch + f.result.latency, 3), f"{f.probe.kind} {f.after.verdict}")
            for f in self.findings
            if f.turned
        ]

    def verdict(self, kind: ProbeKind, attempt: int = 1) -> Verdict:
        return self.prober.health("r1", attempt)[kind].verdict

    def quiet(self) -> bool:
        """Nothing is under way and nothing will be."""
        return not self.open and all(timer.cancelled() for timer in self.loop._scheduled)  # type: ignore[attr-defined]


def target(replica_id: str = "r1") -> Target:
    return Target(replica_id, "127.0.0.1", {80: 40001})


# --- the first check and the budget ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [STARTUP, READINESS, LIVENESS])
@pytest.mark.parametrize(("delay", "period"), [(0.0, 10.0), (5.0, 10.0), (2.5, 1.5), (1.0, 0.1), (15.0, 3.0)])
@pytest.mark.parametrize("epoch", [0.0, 1_790_000_000.123])
async def test_the_nth_failure_that_counts_falls_at_the_delay_and_n_periods(
    kind: ProbeKind, delay: float, period: float, epoch: float
) -> None:
    world = World({kind: never}, epoch=epoch)
    asked = probe(kind, failures=7, delay=delay, period=period, timeout=0.05)
    world.watch(asked)
    await asyncio.sleep(delay + 8.5 * period)
    due = [round(delay + n * period, 3) for n in range(1, 9)]
    if kind is READINESS:  # it is looked at for ever; the others are on hold from their verdict on
        assert world.ticks(kind) == due
        assert world.turns() == []  # it was failing all the time
    else:
        assert world.ticks(kind) == due[:7]
        assert world.turns() == [(due[6], f"{kind} failing")]


async def test_the_first_check_comes_at_the_initial_delay_and_its_failure_does_not_count() -> None:
    world = World({STARTUP: never})
    world.watch(probe(STARTUP, failures=1, delay=5.0), eager=False)
    await asyncio.sleep(14.9)
    assert world.begun == [("r1", STARTUP, 5.0, True)]
    assert (world.verdict(STARTUP), world.findings[0].after.streak) == (Verdict.UNKNOWN, 0)
    await asyncio.sleep(0.2)
    assert world.turns() == [(15.0, "startup failing")]


async def test_a_clock_that_was_set_back_puts_off_no_check_for_longer_than_its_delay() -> None:
    world = World()
    asked = probe(LIVENESS, delay=5.0)
    world.watch(asked, health={LIVENESS: after(asked, "+")}, started_at=86_400.0)
    await asyncio.sleep(15.1)
    assert world.looks(LIVENESS) == [5.0]
    assert world.ticks(LIVENESS) == [15.0]


async def test_row_8_a_delay_that_is_over_is_not_waited_for() -> None:
    world = World()
    await asyncio.sleep(200.0)
    world.watch(probe(READINESS, delay=100.0), started_at=0.0)
    await asyncio.sleep(0.0)
    assert world.begun == [("r1", READINESS, 200.0, True)]


async def test_a_replica_seen_late_is_checked_at_once_and_its_ticks_count_from_its_start() -> None:
    world = World({READINESS: never})
    await asyncio.sleep(27.0)
    world.watch(probe(READINESS), started_at=0.0, eager=False)
    await asyncio.sleep(24.0)
    assert world.looks(READINESS) == [27.0]
    assert world.ticks(READINESS) == [30.0, 40.0, 50.0]


async def test_a_success_of_the_first_check_counts() -> None:
    world = World()
    world.watch(probe(STARTUP, delay=5.0), eager=False)
    await asyncio.sleep(6.0)
    assert world.turns() == [(5.0, "startup passing")]


# --- eager looks ----------------------------------------------------------------------------------


async def test_eager_looks_come_every_100_ms_and_a_success_counts_at_once() -> None:
    world = World({READINESS: from_(0.55)})
    world.watch(probe(READINESS))
    await asyncio.sleep(5.0)
    assert world.looks(READINESS) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert world.turns() == [(0.6, "readiness passing")]


async def test_eager_looks_become_rarer() -> None:
    world = World({READINESS: never})
    world.watch(probe(READINESS, period=600.0))
    await asyncio.sleep(599.0)
    looks = world.looks(READINESS)
    pauses = [later - one for one, later in itertools.pairwise(looks)]
    assert max(pauses) == pytest.approx(0.02 * looks[-2], abs=0.01)
    assert len(looks) < 300


async def test_eager_failures_leave_the_budget_alone() -> None:
    world = World({STARTUP: never})
    world.watch(probe(STARTUP, failures=6))
    await asyncio.sleep(100.0)
    assert len(world.looks(STARTUP)) > 50
    assert world.turns() == [(60.0, "startup failing")]


async def test_there_are_no_eager_looks_once_it_was_ready() -> None:
    world = World({READINESS: lambda now: now < 20.0 or now > 55.0})
    world.watch(probe(READINESS))
    await asyncio.sleep(75.0)
    assert world.looks(READINESS) == [0.0]
    assert world.ticks(READINESS) == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    assert world.turns() == [
        (0.0, "readiness passing"),
        (40.0, "readiness failing"),
        (60.0, "readiness passing"),
    ]


async def test_liveness_is_never_looked_at_eagerly() -> None:
    world = World({LIVENESS: never})
    world.watch(probe(LIVENESS))
    await asyncio.sleep(29.0)
    assert world.looks(LIVENESS) == [0.0]
    assert world.ticks(LIVENESS) == [10.0, 20.0]


async def test_a_template_can_do_without_eager_looks() -> None:
    world = World({STARTUP: from_(12.0), READINESS: never})
    world.watch(probe(STARTUP), probe(READINESS), eager=False)
    await asyncio.sleep(45.0)
    assert (world.looks(STARTUP), world.ticks(STARTUP)) == ([0.0], [10.0, 20.0])
    assert (world.looks(READINESS), world.ticks(READINESS)) == ([20.0], [30.0, 40.0])


async def test_an_eager_look_gives_way_to_a_tick() -> None:
    world = World({READINESS: never}, {READINESS: 3.0})
    world.watch(probe(READINESS, period=2.0, timeout=4.0, failures=9))
    await asyncio.sleep(4.9)
    assert world.begun == [("r1", READINESS, 0.0, True), ("r1", READINESS, 2.0, False)]
    assert world.findings == []
    await asyncio.sleep(0.1)
    assert [(f.result.at, f.result.eager, f.after.streak) for f in world.findings] == [(2.0, False, 1)]


# --- slow checks ----------------------------------------------------------------------------------


async def test_rules_a1_a8_a_slow_check_is_followed_at_once_by_the_one_that_is_owed() -> None:
    world = World({LIVENESS: always}, {LIVENESS: 24.0})
    world.watch(probe(LIVENESS, period=10.0, timeout=30.0))
    await asyncio.sleep(110.0)
    # 10 to 34: the tick of 20 is owed, that of 30 dropped; and so on.
    assert world.ticks(LIVENESS) == [10.0, 34.0, 58.0, 82.0, 106.0]


async def test_rule_a8_after_a_slow_check_the_ticks_keep_their_phase() -> None:
    slow = {LIVENESS: 12.0}
    world = World({LIVENESS: always}, slow)
    world.watch(probe(LIVENESS, period=10.0, timeout=30.0))
    await asyncio.sleep(11.0)
    slow[LIVENESS] = 0.5
    await asyncio.sleep(35.0)
    assert world.ticks(LIVENESS) == [10.0, 22.0, 30.0, 40.0]


async def test_timeouts_longer_than_the_period_still_count_one_by_one() -> None:
    world = World({}, {LIVENESS: 99.0})
    world.watch(probe(LIVENESS, period=10.0, timeout=15.0, failures=3))
    await asyncio.sleep(100.0)
    assert world.ticks(LIVENESS) == [10.0, 25.0, 40.0]
    assert [f.after.streak for f in world.findings] == [1, 2, 3]
    assert world.quiet()


def expected_ticks(period: float, takes: list[float], until: float) -> list[float]:
    """One tick kept while a check runs, further ones dropped; written the slow way."""
    begun, end, owed = [], 0.0, False
    for due in itertools.takewhile(lambda at: at <= until, (period * n for n in itertools.count(1))):
        while owed and end <= due:
            begun.append(end)
            end, owed = end + takes[len(begun) % len(takes)], False
        if end > due:
            owed = True
        else:
            begun.append(due)
            end = due + takes[len(begun) % len(takes)]
    return [*begun, end] if owed and end <= until else begun


@PATIENT
@given(
    st.sampled_from([1.0, 1.5, 3.0, 10.0]),
    st.lists(st.integers(0, 2500).map(lambda n: n / 100 + 0.0037), min_size=1, max_size=8),
    st.text("+-", min_size=1, max_size=6),
)
def test_any_pace_of_answers_has_its_ticks_served_owed_or_dropped(
    period: float, takes: list[float], answers: str
) -> None:
    async def play() -> list[float]:
        world = World()
        served = itertools.count(1)

        def answer(_: float) -> bool:
            # What the next check will take; the first one, which is eager, takes no time.
            world.takes[READINESS] = takes[next(served) % len(takes)]
            return answers[len(world.begun) % len(answers)] == "+"

        world.takes = {READINESS: 0.0}
        world.answers = {READINESS: answer}
        world.watch(probe(READINESS, period=period, timeout=99.0), eager=False)
        await asyncio.sleep(20 * period + 0.002)
        return world.ticks(READINESS)

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        assert runner.run(play()) == pytest.approx(
            expected_ticks(period, takes, 20 * period + 0.002), abs=2e-3
        )


class Hasty(Clock):
    """Timers fire a little early, as uvloop's do, which count whole milliseconds."""

    def loop_time(self, at: float) -> float:
        return Clock.loop_time(self, at) - 0.0005


@pytest.mark.parametrize("period", [0.1, 1.0, 10.0])
async def test_a_timer_that_fires_early_serves_its_tick_once(period: float) -> None:
    world = World({READINESS: never})
    world.clock = Hasty(0.0, world.loop.time())
    world.prober = Prober(world.clock, world.begin, world.findings.append)
    world.watch(probe(READINESS, period=period, delay=1.0), eager=False)
    await asyncio.sleep(1.0 + 20.5 * period)
    assert world.ticks(READINESS) == pytest.approx([1.0 + n * period for n in range(1, 21)], abs=2e-3)
    assert len(world.looks(READINESS)) == 1


async def test_a_loop_that_stood_still_makes_up_for_no_ticks_and_keeps_the_phase() -> None:
    world = World({READINESS: always})
    world.watch(probe(READINESS))
    await asyncio.sleep(15.0)
    world.loop._jump.skipped += 27.0  # type: ignore[attr-defined]
    await asyncio.sleep(20.0)
    assert world.ticks(READINESS) == [10.0, 42.0, 50.0, 60.0]


# --- gating ---------------------------------------------------------------------------------------


async def test_rows_21_and_22_readiness_and_liveness_wait_for_startup() -> None:
    world = World({STARTUP: from_(32.0), LIVENESS: never})
    world.watch(probe(STARTUP, failures=9), probe(READINESS), probe(LIVENESS, failures=1))
    await asyncio.sleep(31.9)
    assert {kind for _, kind, _, _ in world.begun} == {STARTUP}
    assert world.verdict(LIVENESS) is Verdict.PASSING
    await asyncio.sleep(20.0)
    passed_at = world.turns()[0][0]
    assert 32.0 <= passed_at < 34.0
    assert world.looks(READINESS) == world.looks(LIVENESS) == [passed_at]
    assert world.turns() == [
        (passed_at, "startup passing"),
        (passed_at, "readiness passing"),
        (round(passed_at + 10.0, 3), "liveness failing"),
    ]


async def test_own_initial_delays_count_from_the_start_of_the_replica_if_that_is_later() -> None:
    world = World({STARTUP: from_(10.0), READINESS: never, LIVENESS: never})
    world.watch(probe(STARTUP), probe(READINESS, delay=45.0), probe(LIVENESS, delay=5.0), eager=False)
    await asyncio.sleep(56.0)
    assert (world.looks(LIVENESS), world.ticks(LIVENESS)) == ([10.0], [20.0, 30.0, 40.0])
    assert (world.looks(READINESS), world.ticks(READINESS)) == ([45.0], [55.0])


@pytest.mark.parametrize(
    ("answers", "turn"),
    [
        pytest.param(always, "startup passing", id="row 12: passed"),
        pytest.param(never, "startup failing", id="row 13: failed"),
    ],
)
async def test_rows_12_and_13_startup_is_on_hold_after_either_verdict(answers: Answers, turn: str) -> None:
    world = World({STARTUP: answers})
    world.watch(probe(STARTUP, failures=1, period=1.0))
    await asyncio.sleep(20.0)
    assert [verdict for _, verdict in world.turns()] == [turn]
    assert len(world.ticks(STARTUP)) <= 1
    assert world.quiet()


async def test_row_16_liveness_is_on_hold_after_its_verdict_and_readiness_goes_on() -> None:
    world = World({LIVENESS: until(15.0)})
    world.watch(probe(LIVENESS, failures=1), probe(READINESS))
    await asyncio.sleep(45.0)
    assert world.ticks(LIVENESS) == [10.0, 20.0]
    assert world.ticks(READINESS) == [10.0, 20.0, 30.0, 40.0]


# --- attempts and daemons -------------------------------------------------------------------------


async def test_rule_c4_each_attempt_begins_clean() -> None:
    world = World({LIVENESS: never})
    asked = probe(LIVENESS, failures=4)
    world.watch(asked)
    await asyncio.sleep(25.0)
    assert world.prober.health("r1", 1)[LIVENESS].streak == 2
    world.watch(asked, attempt=2)
    assert world.prober.health("r1", 2)[LIVENESS] == Health.initial(LIVENESS)
    assert world.prober.health("r1", 1) == {}
    await asyncio.sleep(100.0)
    assert world.turns() == [(65.0, "liveness failing")]


async def test_row_16_after_a_hold_the_next_attempt_is_looked_at() -> None:
    world = World({STARTUP: from_(30.0)})
    world.watch(probe(STARTUP, failures=1))
    await asyncio.sleep(40.0)
    world.watch(probe(STARTUP, failures=1), attempt=2)
    await asyncio.sleep(40.0)
    assert world.turns() == [(10.0, "startup failing"), (40.0, "startup passing")]


async def test_watching_the_same_attempt_again_changes_nothing() -> None:
    world = World({READINESS: never})
    for _ in range(25):
        world.watch(probe(READINESS), started_at=0.0, eager=False)
        await asyncio.sleep(1.0)
    assert world.begun == [
        ("r1", READINESS, 0.0, True),
        ("r1", READINESS, 10.0, False),
        ("r1", READINESS, 20.0, False),
    ]


async def test_rule_g1_another_daemons_verdicts_stand_until_a_result_says_otherwise() -> None:
    world = World({READINESS: never, LIVENESS: never})
    probes = (probe(STARTUP), probe(READINESS), probe(LIVENESS))
    known = {
        STARTUP: after(probes[0], "+"),
        READINESS: after(probes[1], "+--"),
        LIVENESS: after(probes[2], "-"),
    }
    await asyncio.sleep(1000.0)
    world.watch(*probes, health=known, started_at=0.0, passed_at=5.0, first_ready_at=6.0)
    assert world.prober.health("r1", 1) == known
    await asyncio.sleep(50.0)
    first = {kind: round(1000.0 + spread("r1", kind, 10.0), 3) for kind in (READINESS, LIVENESS)}
    assert world.begun[0][2:] == (min(first.values()), False)
    # One more failure was missing to the one, two to the other.
    assert sorted(world.turns()) == sorted(
        [(first[READINESS], "readiness failing"), (round(first[LIVENESS] + 10.0, 3), "liveness failing")]
    )
    assert world.looks(READINESS) == world.looks(STARTUP) == []


async def test_a_resumed_startup_goes_on_with_its_failures_and_its_phase() -> None:
    world = World({STARTUP: never})
    asked = probe(STARTUP, failures=6)
    await asyncio.sleep(44.0)
    world.watch(asked, health={STARTUP: after(asked, "----")}, started_at=0.0)
    await asyncio.sleep(40.0)
    assert world.ticks(STARTUP) == [50.0, 60.0]
    assert world.turns() == [(60.0, "startup failing")]


async def test_a_resumed_replica_that_was_never_ready_is_still_looked_at_eagerly() -> None:
    world = World({READINESS: from_(1003.0)})
    asked = probe(READINESS, period=60.0)
    await asyncio.sleep(1000.0)
    world.watch(asked, health={READINESS: Health.initial(READINESS)}, started_at=0.0)
    await asyncio.sleep(30.0)
    assert 1003.0 <= world.turns()[0][0] < 1007.0


@pytest.mark.parametrize("kind", [STARTUP, LIVENESS])
async def test_what_another_daemon_found_dead_is_not_looked_at(kind: ProbeKind) -> None:
    world = World()
    asked = probe(kind)
    world.watch(asked, health={kind: after(asked, "---")})
    await asyncio.sleep(60.0)
    assert world.begun == []
    assert world.verdict(kind) is Verdict.FAILING


async def test_rule_a2_checks_of_many_resumed_replicas_are_spread_over_the_period() -> None:
    world = World()
    asked = probe(READINESS)
    await asyncio.sleep(1000.0)
    for n in range(200):
        world.watch(
            asked, health={READINESS: after(asked, "+")}, id=f"r{n}", started_at=0.0, first_ready_at=1.0
        )
    await asyncio.sleep(9.999)
    tenths = [0] * 10
    for _, _, at, _ in world.begun:
        tenths[int(at - 1000.0)] += 1
    assert sum(tenths) == 200
    assert min(tenths) >= 5, tenths


# --- the prober's own trouble ---------------------------------------------------------------------


async def test_trouble_of_the_probers_own_is_shown_and_not_counted() -> None:
    world = World({LIVENESS: lambda now: "too many open files" if now < 45.0 else False})
    world.watch(probe(LIVENESS, failures=2))
    await asyncio.sleep(45.0)
    assert world.verdict(LIVENESS) is Verdict.PASSING
    assert [(f.result.warning, f.result.eager, f.after.streak) for f in world.findings] == [
        ("too many open files", True, 0)
    ] * 5
    await asyncio.sleep(45.0)
    assert world.turns() == [(60.0, "liveness failing")]


async def test_row_15_a_report_that_breaks_does_not_stop_the_checks() -> None:
    broken: list[object] = []
    world = World()
    world.loop.set_exception_handler(lambda _, context: broken.append(context["exception"]))

    def report(finding: Finding) -> None:
        world.findings.append(finding)
        raise RuntimeError(finding.replica_id)

    world.prober = Prober(world.clock, world.begin, report)
    world.watch(probe(STARTUP), probe(READINESS))
    await asyncio.sleep(25.0)
    assert world.ticks(READINESS) == [10.0, 20.0]
    assert len(broken) == len(world.findings) == 4
    assert world.verdict(READINESS) is Verdict.PASSING


# --- stopping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [Prober.halt, Prober.forget])
@pytest.mark.parametrize("at", [0.0, 0.02, 0.15, 10.0, 10.02, 15.0])
async def test_row_14_nothing_is_left_when_it_is_told_to_stop_however_often(
    stop: Callable[[Prober, str], None], at: float
) -> None:
    world = World({STARTUP: always, READINESS: never, LIVENESS: always}, {READINESS: 0.05, LIVENESS: 0.05})
    world.watch(probe(STARTUP), probe(READINESS), probe(LIVENESS))
    await asyncio.sleep(at)
    for _ in range(10):
        stop(world.prober, "r1")
    assert world.quiet()
    assert world.prober.ticks("r1") == {}
    begun, found = len(world.begun), len(world.findings)
    await asyncio.sleep(60.0)
    assert (len(world.begun), len(world.findings)) == (begun, found)


async def test_a_halted_replica_keeps_what_is_known_of_it_a_forgotten_one_does_not() -> None:
    world = World()
    world.watch(probe(READINESS))
    await asyncio.sleep(1.0)
    world.prober.halt("r1")
    assert world.verdict(READINESS) is Verdict.PASSING
    world.prober.forget("r1")
    assert world.prober.health("r1", 1) == {}


async def test_row_25_closing_stops_all_of_them_forgetting_one_only_that() -> None:
    world = World({READINESS: never}, {READINESS: 0.5})
    for name in ("a", "b", "c"):
        world.watch(probe(READINESS), id=name)
    await asyncio.sleep(0.2)
    world.prober.forget("a")
    assert {name for name, _ in world.open} == {"b", "c"}
    world.prober.close()
    world.prober.close()
    assert world.quiet()


async def test_strangers_can_be_stopped_and_asked_about() -> None:
    world = World()
    world.prober.halt("nobody")
    world.prober.forget("nobody")
    assert (world.prober.health("nobody", 1), world.prober.ticks("nobody")) == ({}, {})


async def test_a_report_may_stop_the_replica_it_is_about() -> None:
    world = World({READINESS: always, LIVENESS: never})
    world.prober = Prober(world.clock, world.begin, lambda finding: world.prober.halt(finding.replica_id))
    world.watch(probe(STARTUP), probe(READINESS), probe(LIVENESS))
    await asyncio.sleep(30.0)
    assert world.quiet()
    assert {kind for _, kind, _, _ in world.begun} <= {STARTUP, READINESS, LIVENESS}
    assert world.ticks(READINESS) == []


# --- many -----------------------------------------------------------------------------------------


async def test_a_replica_that_does_not_answer_delays_no_others_check() -> None:
    world = World()
    hanging = probe(READINESS, period=1.0, timeout=1.0)
    world.takes = {READINESS: 99.0, LIVENESS: 0.0}
    for n in range(20):
        world.watch(hanging, id=f"bad{n}")
    world.watch(probe(LIVENESS, period=1.0), id="good")
    await asyncio.sleep(30.5)
    assert world.ticks(LIVENESS, "good") == [float(n) for n in range(1, 31)]


async def test_2000_probes_have_every_tick_served_once() -> None:
    world = World(epoch=1_790_000_000.123)
    world.findings = Last()
    starts = {f"r{n}": n % 1000 / 1000 for n in range(2000)}
    for name, start in starts.items():
        world.loop.call_at(start, partial(world.watch, probe(READINESS, period=1.0), id=name))
    await asyncio.sleep(60.9995)
    served: dict[str, list[float]] = {name: [] for name in starts}
    for name, _, at, eager in world.begun:
        if not eager:
            served[name].append(at)
    assert served == {name: [round(start + n, 3) for n in range(1, 61)] for name, start in starts.items()}


class Last(list[Finding]):
    """Remembers nothing: 120,000 findings are of no interest."""

    def append(self, finding: Finding, /) -> None:
        del finding


# --- what others read -----------------------------------------------------------------------------


async def test_when_each_probe_is_due_next_can_be_asked() -> None:
    world = World({READINESS: never})
    world.watch(probe(STARTUP, delay=3.0), probe(READINESS), probe(LIVENESS, delay=20.0))
    assert world.prober.ticks("r1") == {STARTUP: 3.0}
    await asyncio.sleep(5.0)
    assert world.prober.ticks("r1") == {READINESS: 13.0, LIVENESS: 20.0}
    await asyncio.sleep(20.0)
    assert world.prober.ticks("r1") == {READINESS: 33.0, LIVENESS: 30.0}


async def test_probes_that_have_not_begun_are_at_their_start() -> None:
    world = World({STARTUP: never})
    world.watch(probe(STARTUP), probe(READINESS), probe(LIVENESS))
    assert world.prober.health("r1", 1) == {kind: Health.initial(kind) for kind in ProbeKind}


# --- whole lives: the rows of the e2e tests -------------------------------------------------------


class Life(World):
    """A replica on an engine: what the prober finds is settled, what is launched is watched.

    Answers are functions of the seconds since the start of the attempt. The process ends `dies_in`
    seconds after it was asked to.
    """

    def __init__(
        self,
        made_of: Template,
        answers: Mapping[ProbeKind, Answers],
        *,
        takes: float = 0.0,
        dies_in: float = 1.0,
    ) -> None:
        super().__init__(
            {kind: self._of_attempt(of) for kind, of in answers.items()}, dict.fromkeys(ProbeKind, takes)
        )
        self.made_of, self.dies_in = made_of, dies_in
        self.prober = Prober(self.clock, self.begin, self._found)
        self.run = Run(1, 0.0)
        self.replica = replica()
        self.phases: list[tuple[float, Phase]] = []
        self.asked_to_end = 0
        self.settle()

    def _of_attempt(self, answers: Answers) -> Answers:
        return lambda now: answers(now - self.run.started_at)

    def _found(self, finding: Finding) -> None:
        self.findings.append(finding)
        if finding.turned:
            self.settle()

    def settle(self) -> None:
        health = self.prober.health("r1", self.replica.attempt)
        drained = self.replica.phase is Phase.DRAINING
        settled, _ = settle(
            self.replica, self.made_of, Facts(self.run, health=health, drained=drained), self.clock.now()
        )
        self.take(settled)

    def retire(self) -> None:
        self.take(retire(self.replica, self.made_of, "scaled to 0", self.clock.now())[0])
        self.loop.call_later(0.05, self.settle)

    def take(self, settled: Replica) -> None:
        before, self.replica = self.replica, settled
        if settled.phase is not before.phase:
            self.phases.append((round(self.clock.now(), 3), settled.phase))
        match settled.phase:
            case Phase.STARTING | Phase.UNREADY | Phase.READY:
                self.prober.watch(settled, target(), self.made_of)
            case Phase.DRAINING if before.phase is not Phase.DRAINING:
                self.prober.halt("r1")
                self.loop.call_later(0.05, self.settle)
            case Phase.STOPPING if self.asked_to_end < settled.attempt:
                self.prober.halt("r1")
                self.asked_to_end = settled.attempt
                self.loop.call_later(self.dies_in, self.end)
            case Phase.BACKOFF if settled.due_at is not None:
                self.loop.call_at(self.clock.loop_time(settled.due_at), self.settle)
            case Phase.PENDING if self.run.attempt < settled.attempt:
                self.run = Run(settled.attempt, self.clock.now())
                self.loop.call_soon(self.settle)
            case _:
                pass

    def end(self) -> None:
        self.run = replace(self.run, exited_at=self.clock.now(), exit_code=-15)
        self.settle()

    def when(self, phase: Phase) -> list[float]:
        return [at for at, one in self.phases if one is phase]


async def test_row_61_readiness_not_before_its_initial_delay_and_never_a_restart() -> None:
    life = Life(template("new", probe(READINESS, delay=15.0)), {READINESS: always})
    await asyncio.sleep(120.0)
    assert life.when(Phase.READY) == [15.0]
    assert life.replica.restarts == 0


async def test_row_62_readiness_that_fails_is_never_ready_and_never_restarts() -> None:
    life = Life(template("new", probe(READINESS)), {READINESS: never})
    await asyncio.sleep(60.0)
    assert (life.replica.phase, life.replica.restarts) == (Phase.UNREADY, 0)


async def test_rows_63_65_71_liveness_that_turns_bad_after_10_s_restarts_once() -> None:
    asked = probe(LIVENESS, delay=15.0, failures=1)
    life = Life(template("new", probe(READINESS), asked), {LIVENESS: until(10.0)})
    await asyncio.sleep(30.0)
    assert life.when(Phase.DRAINING) == [25.0]
    assert life.replica.restarts == 1


async def test_rows_64_66_68_a_good_liveness_check_never_restarts() -> None:
    life = Life(template("new", probe(READINESS), probe(LIVENESS, delay=15.0, failures=5)), {})
    await asyncio.sleep(240.0)
    assert (life.replica.phase, life.replica.restarts) == (Phase.READY, 0)


async def test_row_67_the_count_of_restarts_goes_up_and_never_back() -> None:
    asked = probe(LIVENESS, delay=5.0, failures=1)
    life, counts = Life(template("new", probe(READINESS), asked), {LIVENESS: until(10.0)}), []
    while life.replica.restarts < 5:
        await asyncio.sleep(1.0)
        counts.append(life.replica.restarts)
    assert counts == sorted(counts)
    # A life is 15 s and a stop 1 s; the waits are 0, 10, 20, 40, 80.
    stops = life.when(Phase.STOPPING)
    assert [round(later - one, 2) for one, later in itertools.pairwise(stops)] == [
        16.05,
        26.05,
        36.05,
        56.05,
    ]


async def test_row_69_checks_beyond_their_timeout_are_failures() -> None:
    life = Life(template("new", probe(READINESS), probe(LIVENESS)), {}, takes=10.0)
    await asyncio.sleep(40.0)
    assert life.when(Phase.READY) == []
    assert life.when(Phase.STOPPING) == [31.0]  # nothing to drain: it never had traffic
    assert life.replica.restarts == 1


async def test_row_73_a_failing_startup_restarts() -> None:
    asked = (probe(STARTUP, delay=15.0, failures=3), probe(READINESS), probe(LIVENESS))
    life = Life(template("new", *asked), {STARTUP: never})
    await asyncio.sleep(50.0)
    assert life.when(Phase.STOPPING) == [45.0]
    assert life.replica.restarts == 1
    assert life.looks(LIVENESS) == []


async def test_row_74_liveness_restarts_nothing_while_startup_has_not_passed() -> None:
    asked = (probe(STARTUP, failures=60), probe(READINESS), probe(LIVENESS, failures=1))
    life = Life(template("new", *asked), {STARTUP: never, LIVENESS: never})
    await asyncio.sleep(240.0)
    assert (life.replica.phase, life.replica.restarts) == (Phase.STARTING, 0)


async def test_row_75_liveness_restarts_after_startup() -> None:
    asked = (probe(STARTUP, failures=60), probe(READINESS), probe(LIVENESS, failures=1))
    life = Life(template("new", *asked, eager=False), {STARTUP: from_(10.0), LIVENESS: never})
    await asyncio.sleep(25.0)
    assert life.when(Phase.DRAINING) == [20.0]
    assert life.replica.restarts == 1


async def test_row_76_ready_immediately_after_startup_not_a_period_later() -> None:
    asked = (probe(STARTUP, period=5.0, failures=60), probe(READINESS, period=30.0))
    life = Life(template("new", *asked), {STARTUP: from_(32.0), READINESS: always})
    await asyncio.sleep(60.0)
    passed, ready = life.when(Phase.UNREADY)[0], life.when(Phase.READY)[0]
    assert 32.0 <= passed <= 35.0
    assert ready == passed


async def test_rows_79_and_80_not_ready_at_once_and_not_asked_any_more_while_it_ends() -> None:
    asked = (probe(READINESS, period=2.0), probe(LIVENESS, period=1.0, failures=1))
    life = Life(template("new", *asked), {READINESS: until(20.0), LIVENESS: until(20.0)}, dies_in=30.0)
    await asyncio.sleep(19.5)
    life.retire()
    assert life.replica.ready_at is None
    begun = len(life.begun)
    await asyncio.sleep(60.0)
    assert len(life.begun) == begun
    assert not any(f.after.verdict is Verdict.FAILING for f in life.findings if f.probe.kind is LIVENESS)
    assert [phase for _, phase in life.phases][-3:] == [Phase.DRAINING, Phase.STOPPING, Phase.STOPPED]
    assert life.replica.restarts == 0


async def test_readiness_comes_and_goes_without_a_restart() -> None:
    life = Life(
        template("new", probe(READINESS, period=5.0)), {READINESS: lambda now: now < 10.0 or now >= 42.0}
    )
    await asyncio.sleep(60.0)
    assert life.phases == [
        (0.0, Phase.UNREADY),
        (0.0, Phase.READY),
        (20.0, Phase.UNREADY),
        (45.0, Phase.READY),
    ]
