"""Words that people read at three in the morning."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.core.probe import ProbeResult
from hale.core.words import duration, ending, outcome
from tests.core.given import PATIENT


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.1, "0 ms"),
        (0, "0 ms"),
        (0.0042, "4 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (1.24, "1.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (14, "14 s"),
        (119, "119 s"),
        (119.6, "2 min"),
        (300, "5 min"),
        (7169, "119 min"),
        (7200, "2 h"),
        (9000, "2.5 h"),
        (864_000, "240 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@PATIENT
@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_a_longer_duration_never_reads_shorter(one: float, other: float) -> None:
    def read(seconds: float) -> float:
        number, unit = duration(seconds).split()
        return float(number) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600}[unit]

    shorter, longer = sorted((one, other))
    assert read(shorter) <= read(longer)
    assert read(longer) == pytest.approx(longer, rel=0.06, abs=0.001)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        pytest.param(
            ProbeResult(0, False, 0.004, 503, "Readiness check failed."),
            '503 in 4 ms: "Readiness check failed."',
            id="an answer with words",
        ),
        pytest.param(
            ProbeResult(0, False, 0.004, 503, '"Readiness check failed."'),
            '503 in 4 ms: "Readiness check failed."',
            id="an answer that is a JSON string",
        ),
        pytest.param(ProbeResult(0, True, 0.004, 200, '""'), "200 in 4 ms", id="an empty JSON string"),
        pytest.param(ProbeResult(0, True, 1.25, 204), "204 in 1.2 s", id="an answer without"),
        pytest.param(ProbeResult(0, True, 0.001, 200, " \r\n "), "200 in 1 ms", id="an answer of blanks"),
        pytest.param(
            ProbeResult(0, False, 1.0, None, "no answer within 1 s"), "no answer within 1 s", id="no answer"
        ),
        pytest.param(ProbeResult(0, False), "no answer", id="no answer and no word"),
        pytest.param(ProbeResult(0, True), "ok", id="nothing to say"),
        pytest.param(ProbeResult(0, True, 0.1, 0, exited=True), "exit 0 in 100 ms", id="an exit code of 0"),
        pytest.param(
            ProbeResult(0, False, 0.1, 137, "gone", exited=True),
            'exit 137 in 100 ms: "gone"',
            id="an exit code",
        ),
    ],
)
def test_outcomes(result: ProbeResult, words: str) -> None:
    assert outcome(result) == words


@PATIENT
@given(st.text(max_size=500))
def test_an_outcome_is_short_whatever_the_answer(detail: str) -> None:
    assert len(outcome(ProbeResult(0, False, 0.004, 503, detail))) <= len('503 in 4 ms: ""') + 120


def test_an_answer_that_is_cut_says_so() -> None:
    assert outcome(ProbeResult(0, False, 0.004, 503, "x" * 121)).endswith('xxx…"')
    assert outcome(ProbeResult(0, False, 0.004, 503, "x" * 120)).endswith('xxx"')


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0 after 5 s"),
        (137, "exited with code 137 after 5 s"),
        (-signal.SIGKILL, "ended by SIGKILL after 5 s"),
        (-signal.SIGTERM, "ended by SIGTERM after 5 s"),
        (-250, "ended by signal 250 after 5 s"),
        (None, "ended after 5 s, its exit code is not known"),
    ],
)
def test_endings(code: int | None, words: str) -> None:
    assert ending(code, "5 s") == words


def test_an_end_by_a_removal_is_called_one() -> None:
    assert ending(None, "5 s", removed=True) == "ended after 5 s: its container was removed"


def test_an_end_for_want_of_memory_is_called_one() -> None:
    words = "ended by the kernel after 5 s: it used up its memory"
    assert ending(-signal.SIGKILL, "5 s", out_of_memory=True) == words
