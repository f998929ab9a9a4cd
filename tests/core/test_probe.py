"""Strings of answers to strings of verdicts; rows are those of Kubernetes' worker tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.core.probe import HISTORY, Health, Probe, ProbeKind, Verdict
from tests.core.given import LIVENESS, PATIENT, READINESS, STARTUP, after, answer, healths, probe, verdicts

ANSWERS = st.text("+-*.", max_size=60)
PROBES = st.builds(probe, st.sampled_from(ProbeKind), failures=st.integers(1, 6), successes=st.integers(1, 4))


@pytest.mark.parametrize(
    ("asked", "answers", "expected"),
    [
        pytest.param(probe(READINESS), "+", "P", id="row 7: a good answer makes ready"),
        pytest.param(probe(LIVENESS), "+", "P", id="row 7: a good answer leaves alive"),
        pytest.param(probe(STARTUP), "+", "P", id="row 7: a good answer ends the startup"),
        pytest.param(
            probe(READINESS, failures=3),
            "+++-----" * 2,
            "PPPPPFFF" * 2,
            id="row 10: unready from the third failure, ready from the first success, twice",
        ),
        pytest.param(
            probe(READINESS, failures=1, successes=3),
            "+++-" * 2,
            "FFPF" * 2,
            id="row 11: ready from the third success, unready from the first failure, twice",
        ),
        pytest.param(probe(STARTUP, failures=1), "+", "P", id="row 12: one success is enough for startup"),
        pytest.param(
            probe(STARTUP, failures=3), "---", "UUF", id="row 13: startup fails at the third failure"
        ),
        pytest.param(
            probe(LIVENESS, failures=3), "+---", "PPPF", id="row 17: liveness: good, then three bad"
        ),
        pytest.param(probe(STARTUP, failures=3), "---", "UUF", id="row 18: startup: three bad"),
        pytest.param(probe(LIVENESS, failures=1), "-", "F", id="row 21: liveness fails once it is looked at"),
        pytest.param(
            probe(STARTUP, failures=2), "-+", "UP", id="row 22: one of two failures does not keep startup up"
        ),
        pytest.param(probe(LIVENESS), "--+--", "PPPPP", id="a success resets the streak"),
        pytest.param(probe(LIVENESS, failures=2), "-+-+-+", "PPPPPP", id="flapping never adds up"),
        pytest.param(probe(READINESS), "....+", "FFFFP", id="eager failures only wait"),
        pytest.param(probe(LIVENESS, failures=2), ".-.-", "PPPF", id="eager failures do not break a streak"),
        pytest.param(probe(LIVENESS, failures=2), "-*-", "PPP", id="an eager success counts"),
        pytest.param(probe(STARTUP, failures=2), ".-..-", "UUUUF", id="the first failure does not count"),
    ],
)
def test_verdicts_follow_answers(asked: Probe, answers: str, expected: str) -> None:
    assert verdicts(asked, answers) == expected


@pytest.mark.parametrize(
    ("asked", "answers", "streaks"),
    [
        pytest.param(probe(STARTUP), "+", [1], id="row 12: the run of a success"),
        pytest.param(probe(STARTUP, failures=3), "---", [1, 2, 3], id="row 18: the run of failures"),
        pytest.param(probe(LIVENESS, failures=3), "+---", [1, 1, 2, 3], id="row 17: a turn begins at one"),
        pytest.param(probe(READINESS), "-.-*+", [1, 1, 2, 1, 2], id="eager failures stand aside"),
        pytest.param(probe(READINESS, failures=2), "------", [1, 2, 3, 4, 5, 6], id="it goes on counting"),
    ],
)
def test_the_streak_counts_equal_outcomes_in_a_row(asked: Probe, answers: str, streaks: list[int]) -> None:
    # Kubernetes sets the run to 0 when a check is on hold (rows 12, 17, 18); here every attempt begins
    # with a clean health instead, and the streak that decided stays to be seen.
    assert [health.streak for health in healths(asked, answers)] == streaks


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        pytest.param(STARTUP, Verdict.UNKNOWN, id="row 9: startup begins unknown"),
        pytest.param(READINESS, Verdict.FAILING, id="row 9: readiness begins failing"),
        pytest.param(LIVENESS, Verdict.PASSING, id="row 9: liveness begins passing"),
    ],
)
def test_before_any_answer(kind: ProbeKind, verdict: Verdict) -> None:
    assert Health.initial(kind) == Health(verdict, 0, None, ())
    assert Health.initial(kind).last is None


def test_a_new_attempt_begins_anew_whatever_was_before() -> None:
    """Row 16 as hale has it: a new attempt is a new health."""
    asked = probe(LIVENESS, failures=1)
    assert after(asked, "-").verdict is Verdict.FAILING
    assert verdicts(asked, "+") == "P"


def test_results_are_kept_newest_first_eager_ones_too() -> None:
    kept = after(probe(READINESS), "+-.").results
    assert [(result.at, result.ok, result.eager) for result in kept] == [
        (2.0, False, True),
        (1.0, False, False),
        (0.0, True, False),
    ]


@PATIENT
@given(PROBES, ANSWERS)
def test_a_verdict_turns_only_on_a_threshold_of_equal_outcomes_in_a_row(asked: Probe, answers: str) -> None:
    verdict, counted = Health.initial(asked.kind).verdict, ""
    for letter, health in zip(answers, healths(asked, answers), strict=True):
        counted += letter.replace("*", "+").replace(".", "")
        if health.verdict is verdict:
            continue
        good = health.verdict is Verdict.PASSING
        needed = asked.success_threshold if good else asked.failure_threshold
        assert counted.endswith(("+" if good else "-") * needed)
        assert letter != "."
        verdict = health.verdict


@PATIENT
@given(PROBES, ANSWERS)
def test_a_threshold_of_equal_outcomes_always_decides(asked: Probe, answers: str) -> None:
    expected, counted = Health.initial(asked.kind).verdict, ""
    for letter, health in zip(answers, healths(asked, answers), strict=True):
        counted += letter.replace("*", "+").replace(".", "")
        if counted.endswith("+" * asked.success_threshold):
            expected = Verdict.PASSING
        elif counted.endswith("-" * asked.failure_threshold):
            expected = Verdict.FAILING
        assert health.verdict is expected


@PATIENT
@given(PROBES, ANSWERS)
def test_without_its_eager_failures_a_history_means_the_same(asked: Probe, answers: str) -> None:
    with_them, without = after(asked, answers), after(asked, answers.replace(".", ""))
    assert (with_them.verdict, with_them.streak, with_them.ok) == (
        without.verdict,
        without.streak,
        without.ok,
    )


@PATIENT
@given(PROBES, st.text("+-*.", min_size=1, max_size=60))
def test_the_newest_results_are_kept_and_no_more(asked: Probe, answers: str) -> None:
    kept = after(asked, answers).results
    newest = [answer(letter, float(at)) for at, letter in enumerate(answers)][::-1]
    assert list(kept) == newest[:HISTORY]
