"""When a probe is due: the budget that the page of the spec promises, to the second."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.core.schedule import eager_pause, first_due, next_tick, spread
from tests.core.given import LIVENESS, PATIENT, READINESS, STARTUP, probe

EPOCH = 1_790_000_000.123
"""An instant as clocks give it: a float there has steps of a quarter of a microsecond."""

PERIODS = st.sampled_from([0.1, 0.3, 1.0, 1.5, 3.0, 7.7, 10.0, 3600.0]) | st.floats(0.1, 3600)
FIRSTS = st.floats(0, 3600).map(lambda second: EPOCH + second)


def ticks(first: float, period: float, count: int) -> list[float]:
    """As the prober walks them: each tick from the one before."""
    found = [first]
    while len(found) <= count:
        found.append(next_tick(first, period, found[-1]))
    return found[1:]


@pytest.mark.parametrize("first", [0.0, 17.3, EPOCH])
@pytest.mark.parametrize("period", [0.1, 0.3, 1, 1.5, 3, 7, 10, 1 / 3])
def test_the_nth_failure_that_counts_falls_at_first_plus_n_periods(first: float, period: float) -> None:
    due = ticks(first, period, 1000)
    assert due == pytest.approx([first + n * period for n in range(1, 1001)], abs=1e-6, rel=0)


def test_the_page_promises_60_seconds_for_10_times_6() -> None:
    assert ticks(EPOCH, 10.0, 6)[-1] - EPOCH == 60.0


@PATIENT
@given(FIRSTS, PERIODS, st.integers(0, 2000), st.floats(-1e-3, 1e-3))
def test_a_tick_is_served_once_however_early_or_late_its_timer_fires(
    first: float, period: float, n: int, off: float
) -> None:
    due = first + n * period
    served = max(due, due + min(off, period / 2))  # as the prober does: a tick that fired early is over
    assert next_tick(first, period, served) == pytest.approx(first + (n + 1) * period, abs=1e-6, rel=0)


@PATIENT
@given(FIRSTS, PERIODS, st.floats(0, 100_000))
def test_the_next_tick_is_the_first_one_after_now(first: float, period: float, waited: float) -> None:
    now = first + waited
    due = next_tick(first, period, now)
    assert now < due <= now + period * 1.001 + 1e-6
    ordinal = (due - first) / period
    assert ordinal == pytest.approx(round(ordinal), abs=1e-5)


@PATIENT
@given(FIRSTS, PERIODS, st.floats(0, 1e-3))
def test_the_first_check_is_no_tick_even_if_its_timer_fires_early(
    first: float, period: float, early: float
) -> None:
    assert next_tick(first, period, first - early) == first + period


def test_ticks_missed_while_nobody_looked_are_not_made_up_for() -> None:
    assert next_tick(100.0, 10.0, 157.0) == 160.0


@pytest.mark.parametrize(
    ("kind", "delay", "passed_at", "due"),
    [
        pytest.param(STARTUP, 0.0, None, 100.0, id="startup: at the start"),
        pytest.param(STARTUP, 5.0, None, 105.0, id="startup: after its delay"),
        pytest.param(STARTUP, 5.0, 130.0, 105.0, id="startup: does not wait for itself"),
        pytest.param(READINESS, 0.0, 130.0, 130.0, id="readiness: the moment startup passes"),
        pytest.param(READINESS, 5.0, 130.0, 130.0, id="readiness: a delay that is over is over"),
        pytest.param(READINESS, 45.0, 130.0, 145.0, id="readiness: its own delay from the start, if later"),
        pytest.param(LIVENESS, 0.0, 130.0, 130.0, id="liveness: the moment startup passes"),
        pytest.param(LIVENESS, 45.5, 130.0, 145.5, id="A6: delays are exact, not cut to whole seconds"),
        pytest.param(LIVENESS, 15.0, None, 115.0, id="liveness without a startup: after its delay"),
    ],
)
def test_the_first_check(kind: str, delay: float, passed_at: float | None, due: float) -> None:
    assert first_due(probe(kind, delay=delay), started_at=100.0, passed_at=passed_at) == due


def test_eager_looks_come_every_100_ms_at_first_and_slower_with_time() -> None:
    assert eager_pause(0.0) == eager_pause(4.9) == 0.1
    assert eager_pause(50.0) == 1.0
    assert eager_pause(600.0) == 12.0


def test_a_minute_of_eager_looks_costs_few_checks() -> None:
    looks = itertools.takewhile(
        lambda at: at < 60,
        itertools.accumulate(itertools.count(), lambda at, _: at + eager_pause(at), initial=0.0),
    )
    assert len(list(looks)) < 200


@PATIENT
@given(st.text(), st.sampled_from([STARTUP, READINESS, LIVENESS]), st.floats(0.1, 3600))
def test_a_place_within_the_period_is_fixed(replica_id: str, kind: str, period: float) -> None:
    place = spread(replica_id, probe(kind).kind, period)
    assert 0 <= place < period
    assert spread(replica_id, probe(kind).kind, period) == place


def test_places_are_spread_uniformly_over_the_period() -> None:
    count, tenths = 5000, [0] * 10
    for n in range(count):
        tenths[int(spread(f"replica-{n}", READINESS, 10.0))] += 1
    # Ten draws of a fair one: none is off by more than five deviations.
    deviation = math.sqrt(count * 0.1 * 0.9)
    assert all(abs(n - count / 10) < 5 * deviation for n in tenths), tenths


def test_the_probes_of_one_replica_have_places_of_their_own() -> None:
    assert len({spread("r1", kind, 10.0) for kind in (STARTUP, READINESS, LIVENESS)}) == 3
