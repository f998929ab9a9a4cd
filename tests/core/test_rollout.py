"""Which replicas come and go: tables of single steps, then whole rollouts in any order of events."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.core.deployment import Share, Strategy
from hale.core.replica import Phase, Replica
from hale.core.rollout import plan_rollout
from tests.core.given import PATIENT, replica

DEFAULT = Strategy()
PHASES = {"s": Phase.STARTING, "u": Phase.UNREADY, "R": Phase.READY, "b": Phase.BACKOFF, "p": Phase.PENDING}


def strategy(surge: int | str, unavailable: int | str) -> Strategy:
    return Strategy(share(surge), share(unavailable))


def share(value: int | str) -> Share:
    return Share(float(value.rstrip("%")), percent=True) if isinstance(value, str) else Share(value)


def fleet(old: str, new: str) -> list[Replica]:
    """`fleet("RR", "s")`: two old replicas that are ready, and a new one that is starting."""
    return [
        replica(PHASES[letter], id=f"{key}{n}", template=key, created_at=float(n))
        for key, letters in (("old", old), ("new", new))
        for n, letter in enumerate(letters, 1)
    ]


def step(old: str, new: str, wanted: int, how: Strategy = DEFAULT) -> str:
    """One step, as `+1 -old2 -old1 ~new3`: added, replaced, surplus."""
    rollout = plan_rollout(fleet(old, new), "new", wanted, how)
    words = [f"+{rollout.add}"] if rollout.add else []
    words += [f"-{r.id}" for r in rollout.replaced] + [f"~{r.id}" for r in rollout.surplus]
    return " ".join(words)


@pytest.mark.parametrize(
    ("old", "new", "wanted", "expected"),
    [
        pytest.param("", "", 1, "+1", id="first of one"),
        pytest.param("", "", 10, "+10", id="all of ten at once: nothing to spare yet"),
        pytest.param("", "sss", 4, "+1", id="what is missing"),
        pytest.param("", "RRRR", 4, "", id="done"),
        pytest.param("R", "", 1, "+1", id="one: the new one beside the old"),
        pytest.param("R", "s", 1, "", id="one: the old stays until the new is ready"),
        pytest.param("R", "u", 1, "", id="one: started is not ready"),
        pytest.param("R", "R", 1, "-old1", id="one: then it goes"),
        pytest.param("RR", "", 2, "+1", id="two: 25 % up is one more, 25 % down is none less"),
        pytest.param("RR", "s", 2, "", id="two: wait"),
        pytest.param("RR", "R", 2, "-old2", id="two: one for one, the youngest first"),
        pytest.param("R", "R", 2, "+1", id="two: the second"),
        pytest.param("R", "Rs", 2, "", id="two: wait again"),
        pytest.param("R", "RR", 2, "-old1", id="two: done"),
        pytest.param("RRRR", "", 4, "+1 -old4", id="four: one more and one less at once"),
        pytest.param("RRR", "s", 4, "+1", id="four: the room of the one that left"),
        pytest.param("RRR", "ss", 4, "", id="four: five in all, three ready"),
        pytest.param("RRR", "sR", 4, "-old3", id="four: one ready, one may go"),
        pytest.param("R" * 10, "", 10, "+3 -old10 -old9", id="ten: 25 % up is three, down is two"),
        pytest.param("R" * 8, "sss", 10, "+2", id="ten: thirteen in all"),
        pytest.param("R" * 8, "sssss", 10, "", id="ten: eight ready"),
        pytest.param("R" * 8, "RRRss", 10, "-old8 -old7 -old6", id="ten: three for three"),
        pytest.param("Rb", "", 2, "+1", id="idle ones count: three in all"),
        pytest.param("Rb", "s", 2, "", id="an idle old one is kept while the new one is not ready"),
        pytest.param("Rb", "R", 2, "-old2", id="the idle one goes first"),
        pytest.param("bbb", "sss", 3, "", id="nobody is ready: the new ones are waited for"),
        pytest.param("bu", "RR", 2, "-old1 -old2", id="the ones that keep failing before others"),
        pytest.param("RRRR", "", 2, "-old4 -old3", id="down with a change: the old make room first"),
        pytest.param("R", "", 4, "+4", id="up with a change: all that fit"),
        pytest.param("", "RRRR", 2, "~new4 ~new3", id="down: the youngest of equals"),
        pytest.param("", "RsRb", 2, "~new4 ~new2", id="down: those without traffic first"),
        pytest.param("", "bsus", 1, "~new1 ~new4 ~new3", id="down: those that keep failing before all"),
        pytest.param("RR", "RRR", 1, "-old2 -old1 ~new3 ~new2", id="down in the middle of a rollout"),
        pytest.param("Rs", "Rb", 0, "-old1 -old2 ~new1 ~new2", id="none: all of them"),
        pytest.param("", "", 0, "", id="none: nothing to do"),
    ],
)
def test_steps_of_the_default_strategy(old: str, new: str, wanted: int, expected: str) -> None:
    assert step(old, new, wanted) == expected


@pytest.mark.parametrize(
    ("how", "old", "new", "wanted", "expected"),
    [
        pytest.param(strategy(0, 0), "RR", "", 2, "+1", id="no room: one more, or it could not move"),
        pytest.param(strategy(0, 0), "RR", "s", 2, "", id="no room: not two"),
        pytest.param(strategy("0%", "0%"), "RR", "", 2, "+1", id="the same in percents"),
        pytest.param(strategy(0, 1), "RRRR", "", 4, "-old4", id="no surge: first one less"),
        pytest.param(strategy(0, 1), "RRR", "", 4, "+1", id="no surge: then a new one"),
        pytest.param(strategy(0, 1), "RRR", "s", 4, "", id="no surge: wait"),
        pytest.param(
            strategy(0, "100%"), "RRRR", "", 4, "-old4 -old3 -old2", id="all may go: the last stays"
        ),
        pytest.param(strategy(0, "100%"), "R", "sss", 4, "", id="all may go: until another is ready"),
        pytest.param(strategy(0, "100%"), "R", "Rss", 4, "-old1", id="all may go: now it goes"),
        pytest.param(strategy(0, "100%"), "R", "", 1, "+1", id="all of one: still not below one"),
        pytest.param(strategy(0, 9), "RR", "", 2, "-old2", id="more than there are: still not below one"),
        pytest.param(strategy("100%", 0), "RRRR", "", 4, "+4", id="twice as many"),
        pytest.param(
            strategy("100%", 0), "RRRR", "RRsR", 4, "-old4 -old3 -old2", id="twice as many: by threes"
        ),
        pytest.param(strategy("1%", 0), "RR", "", 2, "+1", id="surge is rounded up"),
        pytest.param(strategy(0, "49%"), "RR", "", 2, "+1", id="unavailable is rounded down"),
        pytest.param(
            strategy(0, "100%"), "bbbb", "", 4, "-old4 -old3 -old2", id="no surge: room by idle ones"
        ),
    ],
)
def test_steps_of_other_strategies(how: Strategy, old: str, new: str, wanted: int, expected: str) -> None:
    assert step(old, new, wanted, how) == expected


# --- whole rollouts -------------------------------------------------------------------------------


@dataclass
class Fleet:
    """Replicas that do as they are told; retired ones are gone from what stays at once."""

    staying: list[Replica]
    wanted: int
    how: Strategy
    named: int = 0
    left: set[str] = field(default_factory=set)

    @property
    def ready(self) -> int:
        return sum(r.phase is Phase.READY for r in self.staying)

    @property
    def limit(self) -> int:
        surge, unavailable = self.how.max_surge.up(self.wanted), self.how.max_unavailable.down(self.wanted)
        return self.wanted + (surge if surge or min(unavailable, self.wanted - 1) > 0 else 1)

    @property
    def floor(self) -> int:
        return max(1, self.wanted - self.how.max_unavailable.down(self.wanted))

    def step(self) -> bool:
        """One step, checked against what was promised; whether anything was done."""
        before, ready = len(self.staying), self.ready
        rollout = plan_rollout(self.staying, "new", self.wanted, self.how)
        gone = {r.id for r in (*rollout.replaced, *rollout.surplus)}
        assert len(gone) == len(rollout.replaced) + len(rollout.surplus)
        assert not gone & self.left, "nobody is retired twice"
        self.left |= gone
        self.staying = [r for r in self.staying if r.id not in gone]
        for _ in range(rollout.add):
            self.named += 1
            self.staying.append(replica(Phase.PENDING, id=f"n{self.named}", created_at=1000.0 + self.named))
        if rollout.add:
            assert len(self.staying) <= max(self.limit, before - len(gone))
        assert self.ready >= min(ready, self.floor), "no more ready ones go than may"
        assert self.ready >= min(ready, 1), "the last one never goes"
        return bool(rollout.add or gone)

    def settle(self) -> None:
        for _ in range(1000):
            if not self.step():
                return
        raise AssertionError("it never comes to rest")

    def turn(self, n: int, phase: Phase) -> None:
        index = n % len(self.staying)
        self.staying[index] = replace(self.staying[index], phase=phase)

    def waiting(self) -> list[int]:
        new = [i for i, r in enumerate(self.staying) if r.template == "new"]
        return [i for i in new if self.staying[i].phase is not Phase.READY]

    def finish(self) -> None:
        """Let new ones become ready, one after the other, until there is nothing left to do."""
        for _ in range(1000):
            self.settle()
            if not self.waiting():
                return
            self.turn(self.waiting()[0], Phase.READY)
        raise AssertionError("it never ends")


SHARES = st.builds(Share, st.integers(0, 12)) | st.builds(Share, st.integers(0, 100), st.just(True))
STRATEGIES = st.just(DEFAULT) | st.builds(Strategy, SHARES, SHARES)
FLEETS = st.builds(fleet, st.text("Rsub", max_size=10), st.text("Rsub", max_size=10))


@PATIENT
@given(FLEETS, st.integers(1, 10), STRATEGIES, st.data())
def test_any_rollout_ends_with_the_wanted_number_of_the_new_and_keeps_its_promises(
    staying: list[Replica], wanted: int, how: Strategy, data: st.DataObject
) -> None:
    rollout = Fleet(staying, wanted, how)
    rollout.settle()
    for n in data.draw(st.lists(st.integers(0, 30), max_size=30)):
        waiting = rollout.waiting()
        if waiting:
            rollout.turn(waiting[n % len(waiting)], Phase.READY)
        rollout.settle()
    rollout.finish()
    assert [r.template for r in rollout.staying] == ["new"] * wanted


@PATIENT
@given(FLEETS, st.integers(1, 10), STRATEGIES, st.data())
def test_replicas_that_come_and_go_on_the_way_do_not_break_it(
    staying: list[Replica], wanted: int, how: Strategy, data: st.DataObject
) -> None:
    """Old and new ones turn unready, crash and come back while it goes on."""
    rollout = Fleet(staying, wanted, how)
    turns = st.tuples(st.integers(0, 30), st.sampled_from([Phase.READY, Phase.UNREADY, Phase.BACKOFF]))
    rollout.settle()
    for n, phase in data.draw(st.lists(turns, max_size=30)):
        rollout.turn(n, phase)
        rollout.settle()
    rollout.finish()
    assert [r.template for r in rollout.staying] == ["new"] * wanted


@PATIENT
@given(FLEETS, st.lists(st.integers(1, 10), min_size=1, max_size=6), STRATEGIES, st.data())
def test_scaling_up_and_down_on_the_way_ends_with_the_last_word(
    staying: list[Replica], numbers: list[int], how: Strategy, data: st.DataObject
) -> None:
    rollout = Fleet(staying, numbers[0], how)
    for wanted in numbers:
        rollout.wanted = wanted
        rollout.settle()
        for n in data.draw(st.lists(st.integers(0, 30), max_size=4)):
            rollout.turn(n, Phase.READY)
            rollout.settle()
    rollout.finish()
    assert [r.template for r in rollout.staying] == ["new"] * numbers[-1]


@PATIENT
@given(st.integers(1, 10), STRATEGIES, st.permutations(range(10)))
def test_ready_never_falls_below_what_may_be_missing(
    wanted: int, how: Strategy, order: Sequence[int]
) -> None:
    """From a whole old fleet to a whole new one."""
    rollout = Fleet(fleet("R" * wanted, ""), wanted, how)
    lowest = wanted
    for n in [*order, *[0] * 200]:
        while rollout.step():
            lowest = min(lowest, rollout.ready)
        if not rollout.waiting():
            break
        rollout.turn(rollout.waiting()[n % len(rollout.waiting())], Phase.READY)
    assert lowest >= rollout.floor
    assert [r.template for r in rollout.staying] == ["new"] * wanted


def test_scaling_down_never_takes_a_ready_one_for_one_that_is_not() -> None:
    for new in ("Rss", "sRs", "ssR", "bRb"):
        gone = plan_rollout(fleet("", new), "new", 1, DEFAULT).surplus
        assert {r.phase for r in gone} & {Phase.READY} == set()
