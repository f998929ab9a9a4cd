"""Rows 56 to 59 as hale has them: at once, then 10 s doubling to 300 s, anew after 600 s of running well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.core.backoff import Backoff
from tests.core.given import PATIENT

DEFAULT = Backoff()


def waits(policy: Backoff, lives: list[float]) -> list[float]:
    """The wait after each of these lives, in seconds."""
    failures, found = 0, []
    for ran_for in lives:
        failures = policy.failures_after(failures, ran_for)
        found.append(policy.delay(failures))
    return found


def test_row_57_waits_of_a_replica_that_ends_at_once() -> None:
    assert waits(DEFAULT, [0.0] * 9) == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_row_57_starts_of_a_replica_that_ends_at_once() -> None:
    starts = [0.0]
    for wait in waits(DEFAULT, [0.0] * 6):
        starts.append(starts[-1] + wait)
    assert starts == [0, 0, 10, 30, 70, 150, 310]


def test_row_59_two_waits_at_the_cap_in_a_row_for_a_replica_that_lives_5_s() -> None:
    assert waits(DEFAULT, [5.0] * 8)[-2:] == [300, 300]


@pytest.mark.parametrize(
    ("last", "wait"),
    [
        pytest.param(599.9, 40, id="row 56: just short of it, the doubling goes on"),
        pytest.param(600.0, 0, id="row 56: after 600 s of running well it begins anew"),
        pytest.param(86_400.0, 0, id="row 56: after a day, too"),
    ],
)
def test_running_well_resets(last: float, wait: float) -> None:
    assert waits(DEFAULT, [0.0, 0.0, 0.0, last])[-1] == wait


def test_row_56_after_a_reset_it_doubles_again_from_the_first_step() -> None:
    assert waits(DEFAULT, [0.0, 0.0, 0.0, 600.0, 0.0, 0.0]) == [0, 10, 20, 0, 10, 20]


def test_row_56_other_steps_and_caps() -> None:
    assert waits(Backoff(1.0, 5.0, 10.0), [0.0] * 6) == [0, 1, 2, 4, 5, 5]


def test_row_58_a_cap_below_the_first_step_wins() -> None:
    assert waits(Backoff(10.0, 1.0), [0.0] * 4) == [0, 1, 1, 1]


def test_no_back_off_at_all() -> None:
    assert waits(Backoff(0.0, 0.0), [0.0] * 4) == [0, 0, 0, 0]


def test_crashing_for_years_stays_at_the_cap() -> None:
    assert DEFAULT.delay(1_000_000) == 300.0


@PATIENT
@given(
    st.builds(Backoff, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)),
    st.lists(st.floats(0, 1e6), max_size=40),
)
def test_waits_never_exceed_the_cap_and_grow_until_a_reset(policy: Backoff, lives: list[float]) -> None:
    before = 0.0
    for ran_for, wait in zip(lives, waits(policy, lives), strict=True):
        assert 0 <= wait <= policy.maximum
        assert wait == 0 if ran_for >= policy.reset_after else wait >= before
        before = wait
