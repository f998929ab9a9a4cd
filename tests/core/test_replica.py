"""Every phase with every trigger: the table, and nothing beside it."""

import itertools

import pytest

from hale.core.replica import (
    LEAVING,
    RUNNING,
    TRANSITIONS,
    IllegalTransitionError,
    Phase,
    Trigger,
    advance,
)
from tests.core.given import replica

# Written down a second time on purpose: a change of the table is a change of what hale promises.
LIFE = """
pending   launched        starting
pending   exited          backoff
pending   ended           stopped
starting  startup passed  unready
starting  released        draining
starting  exited          backoff
starting  ended           stopped
unready   became ready    ready
unready   released        draining
unready   exited          backoff
unready   ended           stopped
ready     became unready  unready
ready     released        draining
ready     exited          backoff
ready     ended           stopped
draining  drained         stopping
draining  exited          backoff
draining  ended           stopped
stopping  exited          backoff
stopping  ended           stopped
backoff   due             pending
backoff   ended           stopped
"""
LEGAL = {
    (Phase(line[:10].strip()), Trigger(line[10:26].strip())): Phase(line[26:].strip())
    for line in LIFE.strip().splitlines()
}
EVERY = [(phase, trigger) for phase in Phase for trigger in Trigger]


@pytest.mark.parametrize(("phase", "trigger"), EVERY, ids=[f"{p} {t}" for p, t in EVERY])
def test_every_phase_with_every_trigger(phase: Phase, trigger: Trigger) -> None:
    before = replica(phase)
    if (phase, trigger) in LEGAL:
        after = advance(before, trigger, 7.0)
        assert (after.phase, after.since) == (LEGAL[phase, trigger], 7.0)
        return
    with pytest.raises(IllegalTransitionError) as caught:
        advance(before, trigger, 7.0)
    assert "r1" in str(caught.value)
    assert str(phase) in str(caught.value)
    assert str(trigger) in str(caught.value)


def test_advancing_changes_phase_and_since_alone() -> None:
    before = replica(Phase.READY, attempt=3, restarts=2, failures=1)
    after = advance(before, Trigger.RELEASED, 7.0)
    changed = {name for name in before.__slots__ if getattr(before, name) != getattr(after, name)}
    assert changed == {"phase", "since"}


def reachable(phase: Phase) -> set[Phase]:
    found, new = set(), {phase}
    while new:
        found |= new
        new = {to for one in new for to in TRANSITIONS[one].values()} - found
    return found


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_end(phase: Phase) -> None:
    assert Phase.STOPPED in reachable(phase)


def test_every_phase_is_reached_from_the_first() -> None:
    assert reachable(Phase.PENDING) == set(Phase)


def test_the_end_is_final() -> None:
    assert not TRANSITIONS[Phase.STOPPED]


def test_only_ready_gets_traffic_back_and_only_through_unready() -> None:
    into_ready = [
        (phase, t) for phase, t in itertools.product(Phase, Trigger) if LEGAL.get((phase, t)) is Phase.READY
    ]
    assert into_ready == [(Phase.UNREADY, Trigger.BECAME_READY)]


def test_leaving_is_never_taken_back() -> None:
    """A replica on its way out comes back as another attempt alone."""
    for phase in LEAVING:
        assert set(TRANSITIONS[phase].values()) <= {Phase.STOPPING, Phase.BACKOFF, Phase.STOPPED}


def test_an_exit_is_understood_wherever_something_runs() -> None:
    for phase in RUNNING:
        assert TRANSITIONS[phase][Trigger.EXITED] is Phase.BACKOFF
        assert TRANSITIONS[phase][Trigger.ENDED] is Phase.STOPPED
