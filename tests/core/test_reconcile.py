"""One deployment's turn: what is wanted and known to what is to be done, told and remembered."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from hale.core.deployment import Desired, Share, Strategy
from hale.core.event import Link
from hale.core.lifecycle import Facts, Run
from hale.core.reconcile import (
    KEPT,
    Drain,
    Forget,
    Launch,
    Marks,
    Observed,
    Obstacle,
    Plan,
    Stop,
    reconcile,
)
from hale.core.replica import Phase, Replica
from tests.core.given import (
    LIVENESS,
    READINESS,
    STARTUP,
    after,
    desired,
    exited,
    probe,
    replica,
    running,
    template,
)

OLD, NEW = template("old", grace=20.0), template("new")
GOOD = running(readiness=after(probe(READINESS), "+"))
BAD = running(readiness=after(probe(READINESS), "---"))
HEALTHY = Marks(0.0, 0.0)


def turn(
    wanted: Desired,
    replicas: Sequence[Replica] = (),
    facts: Mapping[str, Facts] | None = None,
    *,
    marks: Marks = HEALTHY,
    now: float = 100.0,
    obstacle: Obstacle | None = None,
) -> Plan:
    names = (f"n{n}" for n in itertools.count(1))
    templates = {"old": OLD, "new": wanted.template}
    observed = Observed(replicas, facts or {}, templates, marks, names.__next__, obstacle)
    return reconcile(wanted, observed, now)


def ready(name: str, **others: object) -> Replica:
    return replica(Phase.READY, id=name, **others)


def done(plan: Plan) -> list[str]:
    return [f"{type(action).__name__.lower()} {action.replica.id}" for action in plan.actions]


def types(plan: Plan) -> list[str]:
    return [event.type for event in plan.events]


def reasons(plan: Plan) -> dict[str | None, str]:
    return {e.replica_id: e.message for e in plan.events if e.type in ("replica.retired", "replica.stopped")}


# --- from nothing to healthy ----------------------------------------------------------------------


def test_the_first_turn_creates_what_is_wanted_and_launches_it() -> None:
    plan = turn(desired(2, revision=3), marks=Marks())
    assert done(plan) == ["launch n1", "launch n2"]
    assert types(plan) == ["replica.created"] * 2
    assert [(r.id, r.phase, r.revision, r.template, r.created_at) for r in plan.replicas] == [
        ("n1", Phase.PENDING, 3, "new", 100.0),
        ("n2", Phase.PENDING, 3, "new", 100.0),
    ]
    assert plan.marks == Marks(applied_at=100.0)


def test_a_launch_is_asked_for_until_it_is_seen() -> None:
    plan = turn(desired(1), [replica()])
    assert done(plan) == ["launch r1"]
    plan = turn(desired(1), [replica()], {"r1": running()})
    assert done(plan) == []
    assert plan.replicas[0].phase is Phase.UNREADY


def test_a_revision_is_healthy_when_as_many_as_wanted_are_ready() -> None:
    plan = turn(
        desired(2), [ready("a"), replica(Phase.UNREADY, id="b")], {"a": GOOD, "b": GOOD}, marks=Marks(1.0)
    )
    assert plan.marks.healthy_at == 100.0
    assert types(plan) == ["replica.ready", "revision.healthy"]
    assert plan.events[-1].message == "revision 1 is healthy: 2 of 2 replicas ready"


def test_one_short_is_not_healthy_nor_are_old_ones_counted() -> None:
    fleet = [ready("a"), ready("b", template="old")]
    plan = turn(desired(2, NEW), fleet, {"a": GOOD, "b": GOOD}, marks=Marks(1.0))
    assert plan.marks.healthy_at is None


def test_healthy_once_stays_healthy() -> None:
    plan = turn(desired(1), [ready("a")], {"a": BAD}, now=5000.0)
    assert plan.marks == HEALTHY
    assert types(plan) == ["replica.unready"]


def test_nothing_wanted_is_neither_healthy_nor_failed() -> None:
    plan = turn(desired(0), marks=Marks(), now=5000.0)
    assert plan.marks == Marks(applied_at=5000.0)
    assert (plan.events, plan.actions, plan.wake_at) == ((), (), None)


# --- the deadline ---------------------------------------------------------------------------------


def test_no_progress_until_the_deadline_fails_the_revision_and_keeps_the_old_serving() -> None:
    fleet = [ready("a", template="old"), replica(Phase.UNREADY, id="b", revision=2)]
    facts = {"a": GOOD, "b": BAD}
    wanted = desired(1, NEW, revision=2, since=50.0)
    before = turn(wanted, fleet, facts, marks=Marks(50.0), now=649.9)
    assert (before.marks.error, before.events, before.wake_at) == (None, (), 650.0)
    plan = turn(wanted, fleet, facts, marks=Marks(50.0), now=650.0)
    assert plan.marks.error == (
        "revision 2 is not healthy after 10 min without progress: 0 of 1 replicas ready; "
        'last readiness answer: 503 in 4 ms: "no model"; the replicas before it keep serving'
    )
    assert types(plan) == ["revision.failed"]
    assert [r.phase for r in plan.replicas] == [Phase.READY, Phase.UNREADY]
    assert plan.actions == ()


def test_a_failure_is_told_once_and_taken_back_by_health() -> None:
    failed = Marks(50.0, None, "revision 1 is not healthy")
    plan = turn(desired(1), [replica(Phase.UNREADY)], {"r1": BAD}, marks=failed, now=2000.0)
    assert (plan.events, plan.marks, plan.wake_at) == ((), failed, None)
    plan = turn(desired(1), [replica(Phase.UNREADY)], {"r1": GOOD}, marks=failed, now=2001.0)
    assert plan.marks == Marks(50.0, 2001.0, None, 2001.0)


def test_progress_puts_the_deadline_off_and_stays_made() -> None:
    fleet = [ready("a", first_ready_at=500.0), replica(Phase.UNREADY, id="b")]
    plan = turn(desired(2), fleet, {"a": GOOD, "b": BAD}, marks=Marks(0.0), now=650.0)
    assert (plan.marks.error, plan.wake_at) == (None, 1100.0)
    # The one that made it ends and starts anew.
    plan = turn(desired(2), plan.replicas, {"a": exited(651.0), "b": BAD}, marks=plan.marks, now=652.0)
    assert plan.replicas[0].first_ready_at is None
    assert (plan.marks.error, plan.wake_at) == (None, 1100.0)
    plan = turn(desired(2), plan.replicas, {"a": exited(651.0), "b": BAD}, marks=plan.marks, now=1100.0)
    assert plan.marks.error == (
        "revision 1 is not healthy after 10 min without progress: 0 of 2 replicas ready; "
        "last end: exited with code 1 after 11 min"
    )


def test_the_newest_progress_counts_even_if_only_older_ones_are_left() -> None:
    fleet = [ready("a", first_ready_at=300.0), replica(Phase.UNREADY, id="b")]
    plan = turn(desired(2), fleet, {"a": GOOD, "b": BAD}, marks=Marks(0.0, progressed_at=500.0), now=901.0)
    assert (plan.marks.error, plan.wake_at) == (None, 1100.0)


def test_the_deadline_is_the_strategys() -> None:
    quick = Strategy(progress_deadline=30.0)
    plan = turn(desired(1, strategy=quick), [replica(Phase.UNREADY)], {"r1": BAD}, marks=Marks(0.0), now=30.0)
    assert plan.marks.error == (
        "revision 1 is not healthy after 30 s without progress: 0 of 1 replicas ready; "
        'last readiness answer: 503 in 4 ms: "no model"'
    )


@pytest.mark.parametrize(
    ("waiting", "facts", "why"),
    [
        pytest.param(replica(Phase.PENDING), Facts(), "", id="nothing is known"),
        pytest.param(
            replica(Phase.STARTING), running(startup=after(probe(STARTUP), "-")), "startup", id="startup"
        ),
        pytest.param(replica(Phase.UNREADY), running(), "", id="no answer yet"),
        pytest.param(
            replica(
                Phase.BACKOFF, due_at=999.0, cause=(Link("start", 1.0, "cannot start serve: no such file"),)
            ),
            Facts(),
            "last end: cannot start serve: no such file",
            id="no start",
        ),
    ],
)
def test_a_failure_says_what_stood_in_the_way(waiting: Replica, facts: Facts, why: str) -> None:
    wanted = desired(1, template("new", probe(STARTUP), probe(READINESS)))
    error = turn(wanted, [waiting], {"r1": facts}, marks=Marks(0.0), now=900.0).marks.error or ""
    told = error.partition("0 of 1 replicas ready")[2].removeprefix("; ")
    assert told == (f'last {why} answer: 503 in 4 ms: "no model"' if why == "startup" else why)


# --- rolling out ----------------------------------------------------------------------------------


def test_the_old_one_leaves_in_the_turn_in_which_the_new_one_is_ready() -> None:
    fleet = [ready("a", template="old"), replica(Phase.UNREADY, id="b", revision=2)]
    plan = turn(desired(1, NEW, revision=2), fleet, {"a": GOOD, "b": GOOD})
    assert [r.phase for r in plan.replicas] == [Phase.DRAINING, Phase.READY]
    assert done(plan) == ["drain a"]
    assert reasons(plan) == {"a": "leaves traffic: replaced by revision 2"}
    assert plan.wake_at == 130.0


def test_leaving_replicas_do_not_count_against_the_surge() -> None:
    fleet = [replica(Phase.STOPPING, id="a", template="old", retired=True), ready("b", template="old")]
    plan = turn(desired(1, NEW, revision=2), fleet, {"a": GOOD, "b": GOOD})
    assert "launch n1" in done(plan)


def test_a_replica_that_leaves_to_be_restarted_still_counts() -> None:
    fleet = [replica(Phase.DRAINING, id="a", first_ready_at=0.0, drain_until=120.0)]
    plan = turn(desired(1), fleet, {"a": GOOD})
    assert done(plan) == ["drain a"]


def test_a_rollout_goes_as_far_as_it_can_in_one_turn() -> None:
    """Nothing wakes a deployment for the end of a replica that was not running."""
    no_surge = Strategy(Share(0), Share(100, percent=True))
    fleet = [replica(Phase.BACKOFF, id=name, template="old", due_at=400.0) for name in "abcd"]
    plan = turn(desired(4, NEW, revision=2, strategy=no_surge), fleet)
    assert [r.id for r in plan.replicas if r.phase is Phase.STOPPED] == ["a", "b", "c"]
    assert done(plan) == ["launch n1", "launch n2", "launch n3"]


def test_a_retired_replica_without_traffic_is_stopped_in_the_same_turn() -> None:
    plan = turn(desired(1), [ready("a"), replica(Phase.UNREADY, id="b")], {"a": GOOD, "b": BAD})
    assert plan.actions == (Stop(plan.replicas[1], 30.0),)
    assert types(plan) == ["replica.retired", "replica.stopping"]


def test_a_change_of_numbers_alone_keeps_what_runs_and_gives_it_the_new_revision() -> None:
    plan = turn(desired(1, revision=5), [ready("a", revision=4)], {"a": GOOD}, marks=Marks())
    assert [(r.id, r.revision, r.phase) for r in plan.replicas] == [("a", 5, Phase.READY)]
    assert plan.actions == ()
    assert plan.marks.healthy_at == 100.0


def test_what_ended_keeps_its_revision() -> None:
    plan = turn(desired(0, revision=5), [replica(Phase.STOPPED, revision=4)])
    assert plan.replicas[0].revision == 4


def test_a_restart_that_was_asked_for_replaces_every_replica() -> None:
    plan = turn(
        desired(1, NEW), [ready("a", template="old"), replica(Phase.UNREADY, id="b")], {"a": GOOD, "b": GOOD}
    )
    assert reasons(plan) == {"a": "leaves traffic: a restart was asked for"}


# --- more, fewer, none ----------------------------------------------------------------------------


def test_scaling_up_adds_what_is_missing() -> None:
    assert done(turn(desired(3), [ready("a")], {"a": GOOD})) == ["launch n1", "launch n2"]


def test_scaling_down_says_so() -> None:
    plan = turn(desired(1), [ready("a"), ready("b", created_at=1.0)], {"a": GOOD, "b": GOOD})
    assert done(plan) == ["drain b"]
    assert reasons(plan) == {"b": "leaves traffic: scaled to 1"}


@pytest.mark.parametrize(
    ("reason", "told"),
    [("", "scaled to 0"), ("the deployment is disabled", "the deployment is disabled")],
)
def test_down_to_none_ends_old_and_new_with_one_reason(reason: str, told: str) -> None:
    fleet = [
        ready("a", template="old"),
        ready("b"),
        replica(Phase.BACKOFF, id="c"),
        replica(Phase.STARTING, id="d"),
    ]
    unstarted = running()
    plan = turn(desired(0, reason=reason), fleet, {"a": GOOD, "b": GOOD, "d": unstarted})
    phases = {r.id: r.phase for r in plan.replicas}
    assert phases == {"a": Phase.DRAINING, "b": Phase.DRAINING, "c": Phase.STOPPED, "d": Phase.STOPPING}
    assert all(message.endswith(f": {told}") for message in reasons(plan).values())
    assert done(plan) == ["drain a", "drain b", "stop d"]


def test_a_replica_on_its_way_to_a_restart_is_taken_along() -> None:
    fleet = [replica(Phase.STOPPING, id="a", first_ready_at=0.0)]
    plan = turn(desired(0), fleet, {"a": GOOD})
    assert plan.replicas[0].retired
    assert done(plan) == ["stop a"]


# --- actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("since", "left"), [(100.0, 20.0), (85.0, 5.0), (10.0, 0.0), (5000.0, 20.0)])
def test_the_grace_is_what_is_left_of_that_of_the_replicas_own_template(since: float, left: float) -> None:
    fleet = [replica(Phase.STOPPING, id="a", template="old", retired=True, since=since), ready("b")]
    plan = turn(desired(1), fleet, {"a": GOOD, "b": GOOD})
    assert plan.actions == (Stop(fleet[0], left),)


def test_what_was_retired_while_it_was_being_started_is_stopped_when_it_turns_up() -> None:
    plan = turn(desired(0), [replica(Phase.PENDING)])
    assert (plan.replicas[0].phase, plan.actions) == (Phase.STOPPED, ())
    late = turn(desired(0), plan.replicas, {"r1": running()})
    assert late.actions == (Stop(plan.replicas[0], 30.0),)
    assert late.events == ()
    over = turn(desired(0), plan.replicas, {"r1": exited(101.0, -15)})
    assert over.actions == ()


def test_the_newest_ends_are_remembered_and_older_ones_forgotten() -> None:
    ended = [
        replica(Phase.STOPPED, id=f"r{n}", finished_at=float(n), template="old") for n in range(KEPT + 3)
    ]
    plan = turn(desired(0), ended[::-1], {r.id: exited(1.0) for r in ended})
    assert plan.actions == (Forget(ended[2]), Forget(ended[1]), Forget(ended[0]))


def test_what_still_runs_is_not_forgotten() -> None:
    ended = [replica(Phase.STOPPED, id=f"r{n}", finished_at=float(n)) for n in range(KEPT + 1)]
    plan = turn(desired(0), ended, {"r0": running()})
    assert done(plan) == ["stop r0"]


def test_row_53_only_the_replica_that_fails_its_check_is_restarted() -> None:
    dead = running(liveness=after(probe(LIVENESS), "---"), readiness=after(probe(READINESS), "+"))
    wanted = desired(3, template("new", probe(READINESS), probe(LIVENESS)))
    plan = turn(wanted, [ready("a"), ready("b"), ready("c")], {"a": GOOD, "b": dead, "c": GOOD})
    assert [r.phase for r in plan.replicas] == [Phase.READY, Phase.DRAINING, Phase.READY]
    assert (done(plan), len(plan.replicas)) == (["drain b"], 3)


def test_row_60_another_revision_begins_its_back_off_anew() -> None:
    crashing = replica(Phase.BACKOFF, id="a", template="old", failures=7, restarts=7, attempt=8, due_at=400.0)
    plan = turn(desired(1, NEW, revision=2), [crashing])
    created = plan.replicas[-1]
    assert (created.id, created.failures, created.restarts) == ("n1", 0, 0)
    assert done(plan) == ["launch n1"]


def test_a_launch_of_the_next_attempt_follows_the_exit_at_once() -> None:
    plan = turn(desired(1), [ready("a")], {"a": exited(99.0)})
    assert plan.actions == (Launch(plan.replicas[0]),)
    assert (plan.replicas[0].attempt, plan.replicas[0].phase) == (2, Phase.PENDING)


def test_a_refused_launch_is_asked_for_once_more_and_then_after_the_back_off() -> None:
    refused = Facts(refused="cannot start: no such file")
    first = turn(desired(1), [replica()], {"r1": refused})
    assert done(first) == ["launch r1"]
    second = turn(desired(1), first.replicas, {"r1": refused}, now=101.0)
    assert (done(second), second.wake_at) == ([], 111.0)


# --- a revision that is not prepared yet ----------------------------------------------------------

WAITING = desired(2, NEW, revision=2, since=50.0, prepared=False)
DENIED = Obstacle("cannot pull web:2: access is denied (hint: log in)", fatal=True, brief="access is denied")
SLOW = Obstacle("cannot pull web:2: no route to host")


@pytest.mark.parametrize(
    "fleet",
    [
        pytest.param([], id="none"),
        pytest.param([ready("a", template="old")], id="fewer of the old than are wanted"),
        pytest.param([ready(name, template="old") for name in "abcd"], id="more of the old"),
        pytest.param([ready(name) for name in "abcd"], id="alike, of the revision before"),
    ],
)
def test_no_replica_comes_or_goes_or_changes_hands_before_its_revision_is_prepared(
    fleet: list[Replica],
) -> None:
    plan = turn(WAITING, fleet, {each.id: GOOD for each in fleet}, marks=Marks())
    assert (plan.replicas, plan.actions, plan.events) == (tuple(fleet), (), ())
    assert (plan.marks, plan.wake_at) == (Marks(), 650.0)


def test_what_there_is_goes_on_meanwhile() -> None:
    fleet = [
        ready("a", template="old"),
        replica(Phase.BACKOFF, id="b", template="old", due_at=99.0),
        replica(Phase.STARTING, id="c", template="old"),
        replica(Phase.DRAINING, id="d", template="old", retired=True, first_ready_at=0.0),
    ]
    facts = {"a": exited(99.0), "b": exited(1.0), "c": GOOD, "d": replace(GOOD, drained=True)}
    plan = turn(WAITING, fleet, facts, marks=Marks())
    phases = {each.id: each.phase for each in plan.replicas}
    assert phases == {"a": Phase.PENDING, "b": Phase.PENDING, "c": Phase.READY, "d": Phase.STOPPING}
    assert done(plan) == ["launch a", "launch b", "stop d"]


def test_the_moment_it_is_prepared_it_is_applied_and_its_obstacle_forgotten() -> None:
    fleet = [ready("a", template="old")]
    wanted = replace(WAITING, prepared=True, since=300.0)
    plan = turn(wanted, fleet, {"a": GOOD}, marks=Marks(error=DENIED.why), now=300.0)
    assert (plan.marks, plan.wake_at) == (Marks(applied_at=300.0), 900.0)
    assert done(plan) == ["launch n1", "launch n2"]


def test_a_fatal_obstacle_is_the_error_at_once_and_told_once() -> None:
    fleet = [ready("a", template="old")]
    first = turn(WAITING, fleet, {"a": GOOD}, marks=Marks(), obstacle=DENIED)
    assert first.marks == Marks(error=DENIED.why)
    assert [event.message for event in first.events] == [
        "revision 2 can't be prepared: access is denied; the replicas before it keep serving"
    ]
    again = turn(WAITING, fleet, {"a": GOOD}, marks=first.marks, obstacle=DENIED, now=5000.0)
    assert (again.marks, again.events, again.wake_at) == (first.marks, (), None)


def test_the_newest_fatal_obstacle_is_the_error() -> None:
    gone = Obstacle("cannot pull web:2: there is no such tag", fatal=True)
    plan = turn(WAITING, marks=Marks(error=DENIED.why), obstacle=gone)
    assert (plan.marks.error, plan.events) == (gone.why, ())


@pytest.mark.parametrize(("obstacle", "why"), [(SLOW, SLOW.why), (None, "it is still under way")])
def test_any_other_is_the_error_after_the_deadline(obstacle: Obstacle | None, why: str) -> None:
    before = turn(WAITING, marks=Marks(), obstacle=obstacle, now=649.9)
    assert (before.marks, before.events, before.wake_at) == (Marks(), (), 650.0)
    plan = turn(WAITING, marks=Marks(), obstacle=obstacle, now=650.0)
    assert plan.marks == Marks(error=f"revision 2 is not prepared after 10 min: {why}")
    told = f"revision 2 can't be prepared within 10 min: {why}"
    assert [(each.type, each.message) for each in plan.events] == [("revision.failed", told)]
    later = turn(WAITING, marks=plan.marks, obstacle=SLOW, now=5000.0)
    assert (later.marks, later.events, later.wake_at) == (plan.marks, (), None)


# --- waking ---------------------------------------------------------------------------------------


def test_time_alone_changes_something_at_the_earliest_of_all() -> None:
    fleet = [
        replica(Phase.BACKOFF, id="a", due_at=170.0),
        replica(Phase.DRAINING, id="b", first_ready_at=0.0, drain_until=120.0, retired=True),
    ]
    drains = turn(desired(1), fleet, {"b": GOOD}, marks=Marks(0.0))
    assert (done(drains), drains.wake_at) == (["drain b"], 120.0)
    assert isinstance(drains.actions[0], Drain)
    waits = turn(desired(1), fleet[:1], marks=Marks(0.0))
    assert waits.wake_at == 170.0
    fails = turn(desired(1), fleet[:1], marks=Marks(0.0), now=0.0)
    assert fails.wake_at == 170.0
    assert turn(desired(1, since=100.0), [replica()], marks=Marks(0.0)).wake_at == 700.0


def test_when_all_is_well_nothing_is_waited_for() -> None:
    plan = turn(desired(1), [ready("a")], {"a": GOOD})
    assert plan == Plan((ready("a"),), marks=HEALTHY)


def test_a_turn_that_comes_at_the_moment_it_asked_for_has_something_to_do() -> None:
    fleet = [replica(Phase.BACKOFF, due_at=170.0)]
    asked = turn(desired(1), fleet).wake_at
    assert asked == 170.0
    assert done(turn(desired(1), fleet, now=asked)) == ["launch r1"]


def test_facts_of_nobody_known_change_nothing() -> None:
    plan = turn(desired(1), [ready("a")], {"a": GOOD, "z": Facts(Run(1, 0.0))})
    assert plan.actions == ()


def test_a_replica_of_an_earlier_template_is_judged_by_its_own() -> None:
    fleet = [replica(Phase.UNREADY, id="a", template="old")]
    plan = turn(desired(1, replace(NEW, probes={}), revision=2), fleet, {"a": BAD})
    assert [r.phase for r in plan.replicas if r.id == "a"] == [Phase.UNREADY]
