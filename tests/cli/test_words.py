"""What the command line says, word by word."""

import pytest

from hale.cli import answers, words
from hale.cli.answers import Check, Next, Replica
from hale.core.probe import ProbeResult

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain", "plain", id="plain text stays"),
        pytest.param("Zürich 日本 🙂", "Zürich 日本 🙂", id="letters of the world stay"),
        pytest.param("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m", id="colours are spelled out"),
        pytest.param("\x1b]0;title\x07", "\\x1b]0;title\\x07", id="a title is not set"),
        pytest.param("a\rb\x08c", "a\\rb\\x08c", id="nothing is overwritten"),
        pytest.param("\x9b2J", "\\x9b2J", id="C1 controls too"),
        pytest.param("user\u202egpj.exe", "user\\u202egpj.exe", id="direction is not turned"),
        pytest.param("\ud800", "\\ud800", id="half a character can be printed"),
        pytest.param("[red]x[/red]", "[red]x[/red]", id="markup is text"),
        pytest.param("a\tb", "a    b", id="a tab is blanks"),
    ],
)
def test_text_from_outside_has_no_power_over_the_terminal(text: str, shown: str) -> None:
    assert words.clean(text) == shown


def test_an_answer_of_several_lines_is_one_line() -> None:
    assert words.line("a\r\n\n  b\tc ") == "a b c"


def test_short_ids_tell_all_apart() -> None:
    ids = ["aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"]
    assert list(words.short_ids(ids).values()) == ["aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"]
    assert list(words.short_ids(ids[1:]).values()) == ["aaaaaaaa", "bbbbbbbb"]
    assert words.short_ids([]) == {}


def replica(phase: str, following: Next | None) -> Replica:
    return Replica("r1", 1, phase, phase == "ready", NOW - 5, 1, 0, next=following)


@pytest.mark.parametrize(
    ("phase", "action", "seconds", "reason", "said"),
    [
        pytest.param("backoff", "restart", 14, "restart 3", "next restart in 14 s", id="back-off"),
        pytest.param("backoff", "restart", -1, "restart 3", "next restart now", id="back-off is over"),
        pytest.param(
            "starting",
            "restart",
            40,
            "2 of 6 startup failures",
            "2 of 6 startup failures, 40 s left",
            id="startup",
        ),
        pytest.param(
            "starting",
            "restart",
            None,
            "0 of 6 startup failures",
            "0 of 6 startup failures",
            id="startup, no time",
        ),
        pytest.param(
            "ready",
            "restart",
            9.2,
            "1 of 3 liveness failures",
            "1 of 3 liveness failures, restart in 10 s",
            id="liveness",
        ),
        pytest.param(
            "unready",
            "restart",
            9.2,
            "1 of 3 liveness failures",
            "1 of 3 liveness failures, restart in 10 s",
            id="liveness while not ready",
        ),
        pytest.param(
            "ready",
            "unroute",
            20,
            "1 of 3 readiness failures",
            "1 of 3 readiness failures, out of traffic in 20 s",
            id="readiness",
        ),
        pytest.param("unready", "check", 4, "not ready until it passes", "next check in 4 s", id="not ready"),
        pytest.param(
            "draining",
            "stop",
            28,
            "finishes the requests under way",
            "finishes the requests under way, ends in 28 s at the latest",
            id="draining",
        ),
        pytest.param(
            "stopping", "kill", 30, "was asked to end", "was asked to end, killed in 30 s", id="stopping"
        ),
        pytest.param(
            "pending", "start", None, "attempt 1 is being started", "attempt 1 is being started", id="pending"
        ),
        pytest.param("ready", "dance", 3, "", "next dance in 3 s", id="an action of a later version"),
    ],
)
def test_what_happens_next(phase: str, action: str, seconds: float | None, reason: str, said: str) -> None:
    at = None if seconds is None else NOW + seconds
    assert words.coming(replica(phase, Next(action, at, reason)), NOW) == said


def test_nothing_is_said_when_nothing_is_to_come() -> None:
    assert words.coming(replica("ready", None), NOW) == ""


def check(streak: int, *results: ProbeResult, verdict: str = "failing") -> Check:
    return Check("readiness", verdict, streak, 3, results)


BAD = ProbeResult(NOW - 2, ok=False, status=503, latency=0.004, detail="Readiness check failed.")
GOOD = ProbeResult(NOW - 1, ok=True, status=200, latency=0.0012, detail="OK")
EAGER = ProbeResult(NOW - 1, ok=False, status=None, detail="connection refused", eager=True)


@pytest.mark.parametrize(
    ("checked", "answer", "failures"),
    [
        pytest.param(check(0), "not checked yet", "", id="no check yet"),
        pytest.param(
            check(2, BAD), '503 in 4 ms: "Readiness check failed.", 2 s ago', "2 of 3 failures", id="failing"
        ),
        pytest.param(
            check(40, BAD), '503 in 4 ms: "Readiness check failed.", 2 s ago', "3 of 3 failures", id="long"
        ),
        pytest.param(check(1, GOOD), '200 in 1 ms: "OK", 1 s ago', "", id="passing"),
        pytest.param(
            check(0, EAGER), "connection refused, 1 s ago", "", id="an eager failure does not count"
        ),
        pytest.param(
            check(1, EAGER, BAD), "connection refused, 1 s ago", "1 of 3 failures", id="eager after one"
        ),
        pytest.param(check(1, EAGER, GOOD), "connection refused, 1 s ago", "", id="eager after a success"),
    ],
)
def test_a_check_is_its_last_answer_and_the_failures_that_count(
    checked: Check, answer: str, failures: str
) -> None:
    assert (words.answer(checked, NOW), words.failures(checked)) == (answer, failures)


def deployment(**spec: object) -> answers.Deployment:
    data = {"enabled": spec.pop("enabled", None), "resources": {"replicas": spec.pop("replicas", 2)}}
    return answers.deployment(
        {
            "id": "d",
            "name": "web",
            "projectId": "p",
            "endpoint": "e",
            "latestSpec": {"id": "s", "data": data} | spec,
        }
    )


HEALTHY = {"dtHealthy": "2026-11-28T13:00:00.000Z"}


@pytest.mark.parametrize(
    ("made", "ready", "status"),
    [
        pytest.param(deployment(**HEALTHY), 2, "healthy", id="all ready"),
        pytest.param(deployment(**HEALTHY), 1, "degraded", id="some ready"),
        pytest.param(deployment(**HEALTHY), 0, "unavailable", id="none ready"),
        pytest.param(deployment(), 0, "rolling out", id="not healthy yet"),
        pytest.param(deployment(error="it broke"), 2, "failed", id="the old ones still serve"),
        pytest.param(deployment(replicas=0), 0, "scaled to zero", id="zero replicas"),
        pytest.param(deployment(enabled=False), 0, "disabled", id="disabled"),
    ],
)
def test_a_deployment_is_in_one_state(made: answers.Deployment, ready: int, status: str) -> None:
    assert words.status(made, ready) == status


def test_an_endpoint_is_a_url_to_try() -> None:
    assert words.url("web.localhost:8080") == "http://web.localhost:8080/"
