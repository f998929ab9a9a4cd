"""One replica's life: what facts about it lead to, and how the story of it reads."""

from collections.abc import Mapping

import pytest

from hale.core.deployment import Template
from hale.core.event import Event, Level
from hale.core.lifecycle import Facts, Run, retire, settle
from hale.core.probe import Health
from hale.core.replica import LEAVING, RUNNING, IllegalTransitionError, Phase, Replica
from tests.core.given import (
    LIVENESS,
    READINESS,
    STARTUP,
    after,
    exited,
    probe,
    replica,
    running,
    template,
    told,
)

ALL = template("new", probe(STARTUP), probe(READINESS), probe(LIVENESS))
S, R, L = probe(STARTUP), probe(READINESS), probe(LIVENESS)
FAILED = {kind: after(probe(kind), "---") for kind in (STARTUP, READINESS, LIVENESS)}
PASSED = {kind: after(probe(kind), "+") for kind in (STARTUP, READINESS, LIVENESS)}


class Life:
    """A replica from its creation on; `see` shows facts to it and says what happened."""

    def __init__(self, made_of: Template = ALL, begin: Replica | None = None) -> None:
        self.template = made_of
        self.replica = begin or replica()
        self.events: list[Event] = []

    def see(self, now: float, facts: Facts) -> list[str]:
        self.replica, events = settle(self.replica, self.template, facts, now)
        self.events.extend(events)
        return [event.type.removeprefix("replica.") for event in events]

    def retire(self, now: float, reason: str = "scaled to 1") -> None:
        self.replica, event = retire(self.replica, self.template, reason, now)
        self.events.append(event)

    @property
    def phase(self) -> Phase:
        return self.replica.phase


# --- startup --------------------------------------------------------------------------------------


def test_a_new_replica_waits_for_its_process() -> None:
    life = Life()
    assert life.see(0.0, Facts()) == []
    assert life.phase is Phase.PENDING


def test_row_22_nothing_else_counts_while_startup_has_not_passed() -> None:
    life = Life(begin=replica(Phase.STARTING))
    facts = running(startup=after(S, "--"), readiness=PASSED[READINESS], liveness=FAILED[LIVENESS])
    assert life.see(5.0, facts) == []
    assert life.phase is Phase.STARTING


def test_startup_passes_at_the_first_success_and_readiness_decides_from_there() -> None:
    life = Life()
    assert life.see(2.0, running()) == ["started"]
    assert life.see(5.0, running(startup=PASSED[STARTUP])) == ["startup_passed"]
    assert (life.phase, life.replica.passed_at) == (Phase.UNREADY, 5.0)
    assert life.see(6.0, running(startup=PASSED[STARTUP], readiness=PASSED[READINESS])) == ["ready"]
    assert (life.phase, life.replica.ready_at, life.replica.first_ready_at) == (Phase.READY, 6.0, 6.0)
    assert life.events[-1].message == "ready 6 s after its start, gets traffic"


def test_everything_that_is_known_at_once_happens_at_once() -> None:
    facts = running(startup=PASSED[STARTUP], readiness=PASSED[READINESS])
    assert Life().see(1.0, facts) == ["started", "startup_passed", "ready"]


def test_startup_fails_and_the_replica_that_never_had_traffic_is_stopped_at_once() -> None:
    life = Life(begin=replica(Phase.STARTING))
    assert life.see(30.0, running(startup=FAILED[STARTUP])) == ["failed_check", "stopping"]
    assert life.phase is Phase.STOPPING
    assert life.events[0].message == 'will be restarted: startup check failed 3 of 3: 503 in 4 ms: "no model"'


@pytest.mark.parametrize(
    ("made_of", "facts", "ready"),
    [
        pytest.param(template("new", R), running(readiness=PASSED[READINESS]), True, id="readiness is good"),
        pytest.param(template("new", R), running(), False, id="readiness was not asked yet"),
        pytest.param(template("new", R), running(readiness=FAILED[READINESS]), False, id="readiness is bad"),
        pytest.param(
            template("new", S, R),
            running(startup=Health.initial(STARTUP), readiness=PASSED[READINESS]),
            False,
            id="startup has not passed",
        ),
        pytest.param(
            template("new", S), running(startup=PASSED[STARTUP]), True, id="startup has passed, no readiness"
        ),
        pytest.param(
            template("new", R),
            Facts(Run(1, 0.0, 1.0, 0), health={READINESS: PASSED[READINESS]}),
            False,
            id="it ended while readiness was good",
        ),
    ],
)
def test_row_26_when_a_replica_is_ready(made_of: Template, facts: Facts, ready: bool) -> None:
    life = Life(made_of)
    life.see(1.0, facts)
    assert (life.phase is Phase.READY) == ready
    assert (life.replica.ready_at is not None) == ready


# --- readiness ------------------------------------------------------------------------------------


def test_row_28_readiness_leaves_traffic_and_comes_back_in_the_turn_that_says_so() -> None:
    life = Life(template(), replica(Phase.READY))
    assert life.see(30.0, running(readiness=FAILED[READINESS])) == ["unready"]
    assert (life.phase, life.replica.ready_at) == (Phase.UNREADY, None)
    assert life.events[-1].message == (
        'not ready, gets no traffic: readiness check failed 3 of 3: 503 in 4 ms: "no model"'
    )
    assert life.events[-1].level is Level.WARNING
    assert life.see(40.0, running(readiness=after(R, "---+"))) == ["ready"]
    assert (life.replica.ready_at, life.replica.first_ready_at) == (40.0, 0.0)
    assert life.events[-1].message == "ready, gets traffic"


def test_row_62_readiness_never_restarts() -> None:
    life = Life(template(), replica(Phase.UNREADY))
    assert life.see(60.0, running(readiness=after(R, "-" * 50))) == []
    assert (life.phase, life.replica.restarts) == (Phase.UNREADY, 0)


def test_below_the_threshold_it_keeps_its_traffic() -> None:
    life = Life(template(), replica(Phase.READY))
    assert life.see(20.0, running(readiness=after(R, "+--"))) == []
    assert life.phase is Phase.READY


# --- liveness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.READY, Phase.UNREADY])
def test_liveness_takes_out_of_traffic_first(phase: Phase) -> None:
    life = Life(begin=replica(phase, first_ready_at=0.0))
    assert life.see(30.0, running(readiness=PASSED[READINESS], liveness=FAILED[LIVENESS])) == ["failed_check"]
    assert (life.phase, life.replica.ready_at, life.replica.drain_until) == (Phase.DRAINING, None, 35.0)
    assert not life.replica.retired


def test_a_restart_drains_5_s_at_most() -> None:
    life = Life(begin=replica(Phase.READY))
    facts = running(readiness=PASSED[READINESS], liveness=FAILED[LIVENESS])
    life.see(30.0, facts)
    assert life.see(34.9, facts) == []
    assert life.see(35.0, facts) == ["stopping"]
    assert life.events[-1].message == "asked to end, though requests were still under way"
    assert life.events[-1].level is Level.WARNING


@pytest.mark.parametrize(("drain", "until"), [(0.0, 30.0), (2.0, 32.0), (300.0, 35.0)])
def test_a_restart_never_drains_longer_than_the_deployment_does(drain: float, until: float) -> None:
    life = Life(template("new", R, L, drain=drain), replica(Phase.READY))
    life.see(30.0, running(readiness=PASSED[READINESS], liveness=FAILED[LIVENESS]))
    assert life.replica.drain_until == until


def test_a_drained_replica_is_stopped_without_waiting() -> None:
    life = Life(begin=replica(Phase.READY))
    life.see(30.0, running(liveness=FAILED[LIVENESS], readiness=PASSED[READINESS]))
    assert life.see(30.1, running(drained=True)) == ["stopping"]
    assert life.events[-1].message == "asked to end"
    assert life.events[-1].level is Level.NORMAL


def test_good_news_does_not_call_off_a_restart() -> None:
    life = Life(begin=replica(Phase.READY))
    life.see(30.0, running(liveness=FAILED[LIVENESS], readiness=PASSED[READINESS]))
    assert life.see(31.0, running(liveness=PASSED[LIVENESS], readiness=PASSED[READINESS])) == []
    assert life.phase is Phase.DRAINING


def test_the_story_of_a_liveness_restart() -> None:
    life = Life(begin=replica(Phase.READY, restarts=1, attempt=2, failures=1))
    life.see(30.0, running(2, liveness=FAILED[LIVENESS], readiness=PASSED[READINESS]))
    life.see(31.0, running(2, drained=True))
    life.see(33.5, exited(33.0, -15, attempt=2))
    assert (life.phase, life.replica.due_at) == (Phase.BACKOFF, 43.0)
    assert life.see(43.0, exited(33.0, -15, attempt=2)) == ["restarting"]
    life.see(44.0, Facts(Run(3, 43.5)))
    assert told(life.replica.cause) == [
        '2 check: liveness check failed 3 of 3: 503 in 4 ms: "no model"',
        "31 stop: asked to end",
        "33 exit: ended by SIGTERM after 33 s",
        "33.5 back-off: restart 2 in 10 s",
        "43.5 start: attempt 3 started",
    ]
    assert (life.replica.attempt, life.replica.restarts, life.replica.failures) == (3, 2, 2)


def test_the_story_of_a_restart_after_an_exit() -> None:
    life = Life(begin=replica(Phase.READY))
    assert life.see(31.0, exited(30.0, 1)) == ["exited", "restarting"]
    assert life.events[0].message == "exited with code 1 after 30 s; restart 1 at once"
    life.see(31.5, Facts(Run(2, 31.2)))
    assert told(life.replica.cause) == [
        "30 exit: exited with code 1 after 30 s",
        "31 back-off: restart 1 at once",
        "31.2 start: attempt 2 started",
    ]


def test_the_story_of_a_restart_begins_anew_with_each() -> None:
    life = Life(begin=replica(Phase.STARTING))
    life.see(1.0, exited(1.0, 1))
    life.see(1.1, exited(1.1, 2, attempt=2, started_at=1.0))
    assert [link.split(" ", 1)[1] for link in told(life.replica.cause)] == [
        "exit: exited with code 2 after 100 ms",
        "back-off: restart 2 in 10 s",
    ]


# --- exits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", sorted(RUNNING))
def test_row_54_an_exit_is_followed_by_another_attempt_in_every_phase(phase: Phase) -> None:
    life = Life(begin=replica(phase, failures=1))
    assert life.see(20.0, exited(19.0, 0))[-1] == "exited"
    assert (life.phase, life.replica.due_at, life.replica.ready_at) == (Phase.BACKOFF, 29.0, None)
    assert life.replica.failures == 2


@pytest.mark.parametrize("phase", sorted(RUNNING))
def test_what_was_taken_away_without_a_trace_has_ended(phase: Phase) -> None:
    life = Life(begin=replica(phase, failures=1))
    assert life.see(20.0, Facts()) == ["exited"]
    assert life.replica.cause[-2].message == "gone without a trace"
    assert (life.phase, life.replica.due_at) == (Phase.BACKOFF, 30.0)


@pytest.mark.parametrize("phase", sorted(RUNNING))
def test_an_exit_of_a_retired_replica_is_its_end_in_every_phase(phase: Phase) -> None:
    life = Life(begin=replica(phase, retired=True))
    assert life.see(20.0, exited(19.0, 0)) == ["stopped"]
    assert (life.phase, life.replica.finished_at, life.replica.due_at) == (Phase.STOPPED, 19.0, None)
    assert life.events[-1].level is Level.NORMAL


def test_an_exit_that_came_before_anybody_looked_is_told_with_its_start() -> None:
    life = Life()
    assert life.see(5.0, exited(0.1, 127))[:2] == ["started", "exited"]
    assert life.events[1].message == "exited with code 127 after 100 ms; restart 1 at once"


def test_an_exit_of_the_attempt_before_is_not_this_ones() -> None:
    life = Life(begin=replica(Phase.PENDING, attempt=2, restarts=1))
    assert life.see(5.0, exited(1.0, 1)) == []


def test_a_clock_that_was_set_back_does_not_make_a_back_off_longer() -> None:
    """The store has an instant of before; the longest wait of this template is 300 s."""
    for due_at, phase in ((400.0, Phase.BACKOFF), (402.0, Phase.PENDING), (100_000.0, Phase.PENDING)):
        life = Life(begin=replica(Phase.BACKOFF, due_at=due_at))
        life.see(100.0, Facts())
        assert life.phase is phase


def test_a_run_of_another_attempt_is_not_this_one() -> None:
    life = Life(begin=replica(Phase.READY, attempt=2, restarts=1))
    assert life.see(50.0, running(1))[0] == "exited"
    assert life.replica.cause[0].message == "gone without a trace"


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.STOPPED}))
def test_an_attempt_later_than_the_one_remembered_is_taken_over_at_once(phase: Phase) -> None:
    """hale went on while it could not write: numbers of attempts never go back, and no good one is ended."""
    life = Life(begin=replica(phase, attempt=2, restarts=1, failures=5))
    life.see(50.0, running(4))
    assert (life.phase, life.replica.attempt, life.replica.restarts) == (Phase.STARTING, 4, 3)


def test_a_later_attempt_that_ended_unseen_is_followed_by_the_next() -> None:
    life = Life(begin=replica(Phase.READY, attempt=1))
    life.see(50.0, exited(49.0, 3, attempt=3))
    assert life.phase is Phase.BACKOFF
    assert (life.replica.attempt, life.replica.cause[0].message) == (3, "exited with code 3 after 49 s")


def test_a_clock_that_was_set_back_does_not_drain_for_longer() -> None:
    """The store has an instant of before; this template drains for 30 s."""
    for drain_until, phase in ((130.0, Phase.DRAINING), (132.0, Phase.STOPPING)):
        life = Life(begin=replica(Phase.DRAINING, drain_until=drain_until, first_ready_at=0.0))
        life.see(100.0, running())
        assert life.phase is phase


def test_a_back_off_that_is_over_when_the_exit_is_seen_is_none() -> None:
    life = Life(begin=replica(Phase.READY, failures=3))
    assert life.see(500.0, exited(100.0, 1)) == ["exited", "restarting"]
    assert life.events[0].message.endswith("restart 1 at once")


def test_a_first_start_has_no_cause() -> None:
    life = Life()
    life.see(1.0, running())
    assert life.replica.cause == ()


def test_each_attempt_begins_clean() -> None:
    life = Life(begin=replica(Phase.READY))
    life.see(31.0, exited(30.0, 1))
    now = life.replica
    assert (now.phase, now.attempt, now.restarts) == (Phase.PENDING, 2, 1)
    assert (now.started_at, now.passed_at, now.ready_at, now.first_ready_at) == (None, None, None, None)
    assert (now.due_at, now.drain_until) == (None, None)


def test_what_is_known_of_one_attempt_does_not_decide_on_the_next() -> None:
    """The next attempt was there already when the end of the first was seen."""
    life = Life(begin=replica(Phase.BACKOFF, due_at=10.0))
    facts = Facts(Run(2, 10.0), "no such file", {STARTUP: FAILED[STARTUP], LIVENESS: FAILED[LIVENESS]}, True)
    assert life.see(10.0, facts) == ["restarting", "started"]
    assert life.phase is Phase.STARTING


@pytest.mark.parametrize(
    ("passed_at", "exited_at", "failures"),
    [
        pytest.param(10.0, 609.9, 5, id="it ran well for not quite 600 s"),
        pytest.param(10.0, 610.0, 1, id="it ran well for 600 s"),
        pytest.param(None, 5000.0, 5, id="a startup that never passes is not running well"),
    ],
)
def test_row_59_back_off_counts_from_the_exit_and_resets_after_running_well(
    passed_at: float | None, exited_at: float, failures: int
) -> None:
    phase = Phase.READY if passed_at is not None else Phase.STARTING
    life = Life(begin=replica(phase, passed_at=passed_at, failures=4))
    life.see(exited_at, exited(exited_at))
    assert life.replica.failures == failures


def test_row_57_starts_of_a_replica_that_exits_at_once() -> None:
    life, now, starts = Life(template()), 0.0, []
    for attempt in range(1, 10):
        starts.append(now)
        life.see(now, exited(now, 1, attempt=attempt, started_at=now))
        now = now if life.phase is Phase.PENDING else life.replica.due_at or 0.0
        life.see(now, exited(starts[-1], 1, attempt=attempt))
    assert starts == [0, 0, 10, 30, 70, 150, 310, 610, 910]


def test_row_67_exits_and_kills_share_one_counter_and_restarts_never_go_back() -> None:
    life, counts = Life(begin=replica(Phase.STARTING)), []
    for attempt, kill in enumerate((True, False, True, True), 1):
        now = 1000.0 * attempt
        if kill:
            life.see(now, running(attempt, startup=FAILED[STARTUP]))
        life.see(now, exited(now, attempt=attempt, started_at=now))
        due = life.replica.due_at if life.phase is Phase.BACKOFF else now
        life.see(due or now, Facts(Run(attempt + 1, due or now)))
        counts.append((life.replica.restarts, (due or now) - now))
    assert counts == [(1, 0), (2, 10), (3, 20), (4, 40)]


# --- refusals -------------------------------------------------------------------------------------


def test_a_refused_start_counts_once_and_is_tried_again_at_once_then_later() -> None:
    life = Life()
    assert life.see(1.0, Facts(refused="cannot start: no such file")) == ["start_failed", "restarting"]
    assert (life.phase, life.replica.attempt, life.replica.failures) == (Phase.PENDING, 2, 1)
    assert life.see(1.1, Facts(refused="cannot start: no such file")) == ["start_failed"]
    assert (life.phase, life.replica.due_at) == (Phase.BACKOFF, 11.1)
    assert told(life.replica.cause) == [
        "1.1 start: cannot start: no such file",
        "1.1 back-off: restart 2 in 10 s",
    ]
    assert life.events[-1].level is Level.WARNING


# --- retiring -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.UNREADY, Phase.READY])
def test_a_retired_replica_leaves_traffic_and_drains_as_configured(phase: Phase) -> None:
    life = Life(template("new", drain=12.0), replica(phase))
    life.retire(100.0, "replaced by revision 2")
    now = life.replica
    assert (now.phase, now.retired, now.ready_at, now.drain_until) == (Phase.DRAINING, True, None, 112.0)
    had_traffic = "leaves traffic" if phase is Phase.READY else "is to end"
    assert life.events[-1].message == f"{had_traffic}: replaced by revision 2"


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.BACKOFF])
def test_what_does_not_run_ends_at_once_when_retired(phase: Phase) -> None:
    life = Life(begin=replica(phase))
    life.retire(100.0)
    assert (life.phase, life.replica.finished_at, life.replica.retired) == (Phase.STOPPED, 100.0, True)
    assert life.events[-1].message == "ended: scaled to 1"


@pytest.mark.parametrize("phase", sorted(LEAVING))
def test_a_replica_that_leaves_for_a_restart_can_be_retired_on_the_way(phase: Phase) -> None:
    life = Life(begin=replica(phase, drain_until=35.0))
    life.retire(31.0)
    assert (life.phase, life.replica.retired, life.replica.drain_until) == (phase, True, 35.0)
    life.see(40.0, exited(40.0, 0))
    assert life.phase is Phase.STOPPED


def test_the_end_cannot_be_retired_again() -> None:
    with pytest.raises(IllegalTransitionError):
        Life(begin=replica(Phase.STOPPED)).retire(1.0)


def test_a_retired_replica_without_traffic_so_far_does_not_wait() -> None:
    life = Life(begin=replica(Phase.UNREADY))
    life.retire(100.0)
    assert life.see(100.0, running()) == ["stopping"]


def test_the_story_of_a_retired_replica() -> None:
    life = Life(begin=replica(Phase.READY))
    life.retire(100.0, "replaced by revision 2")
    assert life.see(129.0, running()) == []
    assert life.see(130.0, running()) == ["stopping"]
    assert life.see(131.0, exited(130.5, 0)) == ["stopped"]
    assert told(life.replica.cause) == [
        "100 retire: replaced by revision 2",
        "130 stop: asked to end, though requests were still under way",
        "130.5 exit: exited with code 0 after 2 min",
    ]


def test_the_end_is_the_end() -> None:
    life = Life(begin=replica(Phase.STOPPED))
    for facts in (Facts(), running(), exited(1.0), Facts(refused="no")):
        assert life.see(1.0, facts) == []


def test_rows_79_and_80_nothing_a_check_says_matters_while_it_ends() -> None:
    for phase in sorted(LEAVING):
        life = Life(begin=replica(phase, retired=True, drain_until=70.0, first_ready_at=0.0))
        for health in (FAILED, PASSED):
            facts = Facts(Run(1, 0.0), health=health)
            assert life.see(50.0, facts) == []
            assert life.phase is phase


# --- what every event says ------------------------------------------------------------------------


def states(events: list[Event]) -> Mapping[str, str]:
    return {event.type.removeprefix("replica."): event.state for event in events}


def test_events_say_whom_they_are_about_and_the_state_that_clients_know() -> None:
    life = Life(begin=replica(revision=7))
    life.see(1.0, running(startup=PASSED[STARTUP], readiness=PASSED[READINESS]))
    life.see(2.0, running(startup=PASSED[STARTUP], readiness=FAILED[READINESS]))
    life.see(3.0, running(startup=PASSED[STARTUP], liveness=FAILED[LIVENESS]))
    life.see(9.0, running())
    life.see(9.5, exited(9.5))
    life.retire(10.0)
    assert {(e.deployment_id, e.revision, e.replica_id) for e in life.events} == {("d1", 7, "r1")}
    assert states(life.events) == {
        "started": "pending",
        "startup_passed": "",
        "ready": "healthy",
        "unready": "unhealthy",
        "failed_check": "errored",
        "stopping": "stopping",
        "exited": "errored",
        "restarting": "",
        "stopped": "stopped",
    }
    assert [e.attempt for e in life.events][-2:] == [2, 2]


@pytest.mark.parametrize("phase", Phase)
def test_the_same_facts_again_change_nothing(phase: Phase) -> None:
    for facts in (running(), running(readiness=PASSED[READINESS]), running(startup=FAILED[STARTUP])):
        life = Life(begin=replica(phase))
        life.see(20.0, facts)
        settled = life.replica
        again = facts if settled.attempt == 1 else Facts(facts.run)
        assert (life.see(20.0, again), life.replica) == ([], settled)


def test_an_end_is_told_with_what_the_engine_knows_of_it() -> None:
    life = Life(begin=replica(Phase.STARTING))
    life.see(30.0, Facts(Run(1, 0.0, 30.0, removed=True)))
    assert life.events[0].message.startswith("ended after 30 s: its container was removed")
