"""What happens next, in words and when."""

from collections.abc import Mapping

import pytest

from hale.core.deployment import Template
from hale.core.outlook import Next, outlook
from hale.core.probe import Health, ProbeKind
from hale.core.replica import Phase, Replica
from tests.core.given import LIVENESS, READINESS, STARTUP, after, probe, replica, template

S, R, L = probe(STARTUP, failures=6), probe(READINESS), probe(LIVENESS)
ALL = template("new", S, R, L)
READY = {READINESS: after(R, "+")}


@pytest.mark.parametrize(
    ("given", "health", "ticks", "expected"),
    [
        pytest.param(
            replica(Phase.PENDING, attempt=3),
            {},
            {},
            Next("start", None, "attempt 3 is being started"),
            id="pending",
        ),
        pytest.param(
            replica(Phase.STARTING),
            {STARTUP: after(S, "--")},
            {STARTUP: 130.0},
            Next("restart", 160.0, "2 of 6 startup failures"),
            id="starting: 40 s left at 120",
        ),
        pytest.param(
            replica(Phase.STARTING),
            {STARTUP: after(S, "..")},
            {STARTUP: 10.0},
            Next("restart", 60.0, "0 of 6 startup failures"),
            id="starting: eager failures do not shorten it",
        ),
        pytest.param(
            replica(Phase.STARTING),
            {},
            {},
            Next("restart", None, "0 of 6 startup failures"),
            id="starting: not watched yet",
        ),
        pytest.param(
            replica(Phase.UNREADY),
            {},
            {READINESS: 7.0},
            Next("check", 7.0, "not ready until the readiness check passes"),
            id="unready",
        ),
        pytest.param(replica(Phase.READY), READY, {READINESS: 7.0, LIVENESS: 8.0}, None, id="ready and well"),
        pytest.param(
            replica(Phase.READY),
            {READINESS: after(R, "+--")},
            {READINESS: 7.0},
            Next("unroute", 7.0, "2 of 3 readiness failures"),
            id="ready, one failure short of leaving traffic",
        ),
        pytest.param(
            replica(Phase.READY),
            READY | {LIVENESS: after(L, "+-")},
            {LIVENESS: 7.0},
            Next("restart", 17.0, "1 of 3 liveness failures"),
            id="ready, liveness began to fail",
        ),
        pytest.param(
            replica(Phase.READY),
            {READINESS: after(R, "+--"), LIVENESS: after(L, "-")},
            {READINESS: 7.0, LIVENESS: 8.0},
            Next("restart", 18.0, "1 of 3 liveness failures"),
            id="the worse of two",
        ),
        pytest.param(
            replica(Phase.UNREADY),
            {READINESS: after(R, "---"), LIVENESS: after(L, "--")},
            {LIVENESS: 8.0},
            Next("restart", 8.0, "2 of 3 liveness failures"),
            id="unready and about to be restarted",
        ),
        pytest.param(
            replica(Phase.READY),
            READY | {LIVENESS: after(L, "--+")},
            {LIVENESS: 8.0},
            None,
            id="it recovered",
        ),
        pytest.param(
            replica(Phase.DRAINING),
            {},
            {},
            Next("stop", 30.0, "finishes the requests under way"),
            id="draining",
        ),
        pytest.param(
            replica(Phase.STOPPING, since=50.0), {}, {}, Next("kill", 80.0, "was asked to end"), id="stopping"
        ),
        pytest.param(
            replica(Phase.BACKOFF, restarts=4, due_at=94.0),
            {},
            {},
            Next("restart", 94.0, "restart 5"),
            id="backing off",
        ),
        pytest.param(replica(Phase.STOPPED), {}, {}, None, id="over"),
    ],
)
def test_what_comes_next(
    given: Replica,
    health: Mapping[ProbeKind, Health],
    ticks: Mapping[ProbeKind, float],
    expected: Next | None,
) -> None:
    assert outlook(given, ALL, health, ticks) == expected


@pytest.mark.parametrize(
    ("made_of", "given"),
    [
        pytest.param(template("new", R), replica(Phase.STARTING), id="no startup check to wait for"),
        pytest.param(template("new", S), replica(Phase.READY), id="no readiness check that could fail"),
    ],
)
def test_nothing_comes_of_checks_that_there_are_not(made_of: Template, given: Replica) -> None:
    assert outlook(given, made_of, {}, {}) is None


def test_the_grace_of_the_template_says_when_it_is_killed() -> None:
    given = replica(Phase.STOPPING, since=50.0)
    assert outlook(given, template("new", grace=2.0), {}, {}) == Next("kill", 52.0, "was asked to end")
