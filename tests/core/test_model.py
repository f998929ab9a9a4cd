"""Anything may happen to a deployment, in any order: what holds in every turn, and where it comes to rest.

The engine, the checks and the balancer's drains are simulated here; `reconcile` decides alone.
"""

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from hale.core.deployment import Desired, Share, Strategy, Template
from hale.core.lifecycle import Facts, Run, settle
from hale.core.probe import Health, ProbeKind, Verdict, record
from hale.core.reconcile import Action, Drain, Forget, Launch, Marks, Observed, Plan, Stop, reconcile
from hale.core.replica import Phase, Replica
from tests.core.given import LIVENESS, READINESS, STARTUP, answer, desired, probe, template

PROBES = st.sampled_from(
    [
        (probe(READINESS),),
        (probe(STARTUP),),
        (probe(READINESS), probe(LIVENESS)),
        (probe(STARTUP, failures=2), probe(READINESS, failures=1), probe(LIVENESS, failures=2)),
    ]
)
SHARES = st.builds(Share, st.integers(0, 3)) | st.builds(Share, st.integers(0, 100), st.just(True))
STRATEGIES = st.builds(Strategy, SHARES, SHARES, st.just(600.0))
ANY = st.integers(0, 1000)
"""Which of those that there are."""

Attempt = tuple[str, int]


@dataclass
class Engine:
    """What runs, what is being started, what was asked to end."""

    runs: dict[str, Run]
    launching: list[Attempt]
    started: set[Attempt]
    stopping: set[str]

    @property
    def running(self) -> list[str]:
        return sorted(name for name, run in self.runs.items() if run.exited_at is None)

    def start(self, attempt: Attempt, now: float) -> None:
        """The same attempt already started is not an error."""
        if attempt not in self.started:
            self.started.add(attempt)
            self.runs[attempt[0]] = Run(attempt[1], now)

    def end(self, name: str, now: float, code: int) -> None:
        self.stopping.discard(name)
        self.runs[name] = replace(self.runs[name], exited_at=now, exit_code=code)


class Deployments(RuleBasedStateMachine):
    @initialize(probes=PROBES, replicas=st.integers(0, 5), strategy=STRATEGIES)
    def begin(self, probes: tuple[object, ...], replicas: int, strategy: Strategy) -> None:
        self.now = 1000.0
        self.named = 0
        self.engine = Engine({}, [], set(), set())
        self.replicas: tuple[Replica, ...] = ()
        self.marks = Marks()
        self.refused: dict[Attempt, str] = {}
        self.drained: set[Attempt] = set()
        self.health: dict[Attempt, dict[ProbeKind, Health]] = {}
        self.templates: dict[str, Template] = {}
        self.wake_at: float | None = None
        self.wanted = Desired(desired().deployment, 0, template("t0", *probes), replicas)  # type: ignore[arg-type]
        self._want(self.wanted.template, replicas, strategy)

    # --- what people ask for ---

    @rule(probes=PROBES, strategy=STRATEGIES)
    def change(self, probes: tuple[object, ...], strategy: Strategy) -> None:
        made_of = template(f"t{self.wanted.revision + 1}", *probes)  # type: ignore[arg-type]
        self._want(made_of, self.wanted.replicas, strategy)

    @rule(replicas=st.integers(0, 5))
    def scale(self, replicas: int) -> None:
        self._want(self.wanted.template, replicas, self.wanted.strategy)

    @rule(which=ANY)
    def roll_back(self, which: int) -> None:
        earlier = sorted(self.templates)
        self._want(self.templates[earlier[which % len(earlier)]], self.wanted.replicas, self.wanted.strategy)

    def _want(self, made_of: Template, replicas: int, strategy: Strategy) -> None:
        self.wanted = replace(
            self.wanted,
            revision=self.wanted.revision + 1,
            template=made_of,
            replicas=replicas,
            strategy=strategy,
            since=self.now,
        )
        self.templates[made_of.key] = made_of
        self.marks = Marks()
        self.turn()

    # --- what happens ---

    @rule(seconds=st.sampled_from([0.05, 1.0, 5.0, 10.0, 31.0, 650.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_asked_for_moment_comes(self) -> None:
        if self.wake_at is not None:
            self.now = max(self.now, self.wake_at)
            self.turn()

    @rule(which=ANY, why=st.sampled_from(["", "", "", "cannot start: no such file"]))
    def a_launch_is_over(self, which: int, why: str) -> None:
        if not self.engine.launching:
            return
        attempt = self.engine.launching.pop(which % len(self.engine.launching))
        if why:
            self.refused[attempt] = why
        else:
            self.engine.start(attempt, self.now)

    @rule(which=ANY, code=st.sampled_from([0, 1, -9]))
    def one_exits(self, which: int, code: int) -> None:
        if self.engine.running:
            self.engine.end(self.engine.running[which % len(self.engine.running)], self.now, code)

    @rule(which=ANY)
    def one_vanishes(self, which: int) -> None:
        if self.engine.running:
            name = self.engine.running[which % len(self.engine.running)]
            self.engine.stopping.discard(name)
            run = self.engine.runs.pop(name)
            # If nobody has seen it yet, it never was: the attempt is launched again.
            self.engine.started.discard((name, run.attempt))

    @rule(which=ANY)
    def a_stop_is_over(self, which: int) -> None:
        if self.engine.stopping:
            stopping = sorted(self.engine.stopping)
            self.engine.end(stopping[which % len(stopping)], self.now, -15)

    @rule(which=ANY, kind=st.sampled_from(ProbeKind), letter=st.sampled_from("+-*."), times=st.integers(1, 3))
    def a_check_finds_something(self, which: int, kind: ProbeKind, letter: str, times: int) -> None:
        if not self.engine.running:
            return
        name = self.engine.running[which % len(self.engine.running)]
        found = self._check(name, kind, letter * times)
        if found is not None:
            self._settle_at_once(found)

    def _check(self, name: str, kind: ProbeKind, letters: str) -> Replica | None:
        """As the prober does: of the present attempt, startup until it passed, the others from then on."""
        for one in self.replicas:
            watched = one.phase in ((Phase.STARTING,) if kind is STARTUP else (Phase.UNREADY, Phase.READY))
            asked = self.templates[one.template].probes.get(kind)
            if one.id == name and watched and asked and self.engine.runs[name].attempt == one.attempt:
                known = self.health.setdefault((name, one.attempt), {})
                for letter in letters:
                    known[kind] = record(
                        known.get(kind, Health.initial(kind)), answer(letter, self.now), asked
                    )
                return one
        return None

    def _settle_at_once(self, one: Replica) -> None:
        """The short way from an answer to the balancer."""
        settled, _ = settle(one, self.templates[one.template], self._facts(one), self.now)
        self.replicas = tuple(settled if r.id == one.id else r for r in self.replicas)

    @rule(which=ANY)
    def one_is_drained(self, which: int) -> None:
        draining = [r for r in self.replicas if r.phase is Phase.DRAINING]
        if draining:
            one = draining[which % len(draining)]
            self.drained.add((one.id, one.attempt))

    @rule(done=st.booleans())
    def the_daemon_is_killed(self, done: bool) -> None:
        """Actions under way are lost, or were done without anybody hearing of it."""
        for attempt in self.engine.launching:
            if done:
                self.engine.start(attempt, self.now)
        self.engine.launching.clear()
        self.engine.stopping.clear()
        self.refused.clear()
        self.drained.clear()
        self.turn()

    @rule()
    def turn(self) -> None:
        """A wake: one decision, checked, and what it asks for is begun."""
        before = {r.id: r for r in self.replicas}
        plan = self._reconcile(self.replicas, self.marks)
        self._check_plan(before, plan)
        self.replicas, self.marks, self.wake_at = plan.replicas, plan.marks, plan.wake_at
        again = self._reconcile(plan.replicas, plan.marks)
        assert again == replace(plan, events=()), "the same again changes nothing"
        for action in plan.actions:
            self._perform(action)

    # --- the shell, in short ---

    def _facts(self, one: Replica) -> Facts:
        key = (one.id, one.attempt)
        return Facts(
            self.engine.runs.get(one.id), self.refused.get(key), self.health.get(key, {}), key in self.drained
        )

    def _reconcile(self, replicas: tuple[Replica, ...], marks: Marks) -> Plan:
        facts = {one.id: self._facts(one) for one in replicas}
        return reconcile(self.wanted, Observed(replicas, facts, self.templates, marks, self._name), self.now)

    def _name(self) -> str:
        self.named += 1
        return f"r{self.named}"

    def _perform(self, action: Action) -> None:
        one = action.replica
        key = (one.id, one.attempt)
        match action:
            case Launch():
                assert key not in self.engine.started, "an attempt is launched once"
                assert key not in self.refused, "and not again when it was refused"
                if key not in self.engine.launching:
                    self.engine.launching.append(key)
            case Stop():
                if one.id in self.engine.running:
                    self.engine.stopping.add(one.id)
            case Forget():
                assert one.phase is Phase.STOPPED
                assert one.id not in self.engine.running
                self.engine.launching = [key for key in self.engine.launching if key[0] != one.id]
                self.replicas = tuple(r for r in self.replicas if r.id != one.id)
            case Drain():
                assert one.phase is Phase.DRAINING

    # --- what holds ---

    def _check_plan(self, before: dict[str, Replica], plan: Plan) -> None:
        assert plan.wake_at is None or plan.wake_at > self.now, "what is due is done"
        assert [r.id for r in plan.replicas[: len(before)]] == list(before), "nobody is lost or moved"
        for one in plan.replicas:
            old = before.get(one.id)
            assert one.restarts == one.attempt - 1
            assert (one.phase is Phase.READY) == (one.ready_at is not None)
            if old is not None:
                assert old.attempt <= one.attempt <= old.attempt + 1
                assert one.retired or not old.retired, "retired is retired"
                assert old.phase is not Phase.STOPPED or one.phase is Phase.STOPPED
            if one.phase is Phase.READY:
                self._check_traffic(one)
        self._check_numbers(before, plan)

    def _check_traffic(self, one: Replica) -> None:
        """Requests go only where they are answered, as far as is known."""
        run = self.engine.runs[one.id]
        assert (run.attempt, run.exited_at, one.retired) == (one.attempt, None, False)
        known = self._facts(one).health
        for kind in self.templates[one.template].probes:
            verdict = known.get(kind, Health.initial(kind)).verdict
            assert verdict is Verdict.PASSING or (kind is LIVENESS and verdict is not Verdict.FAILING)

    def _check_numbers(self, before: dict[str, Replica], plan: Plan) -> None:
        staying = [r for r in plan.replicas if not r.retired]
        new = [r for r in staying if r.template == self.wanted.template.key]
        assert len(new) <= max(self.wanted.replicas, 0)
        if any(r.id not in before for r in plan.replicas):
            surge = self.wanted.strategy.max_surge.up(self.wanted.replicas)
            assert len(staying) <= self.wanted.replicas + max(surge, 1)

    def teardown(self) -> None:
        """Whatever happened: when all goes well from here on, it comes to rest where it should."""
        if not hasattr(self, "wanted"):
            return
        for _ in range(200):
            before = (self.replicas, self.now)
            self._all_goes_well()
            self.turn()
            if (self.replicas, self.now) == before and not self.engine.launching and not self.engine.stopping:
                break
        alive = [r for r in self.replicas if r.phase is not Phase.STOPPED]
        assert [(r.phase, r.template) for r in alive] == [
            (Phase.READY, self.wanted.template.key)
        ] * self.wanted.replicas
        assert self.engine.running == sorted(r.id for r in alive)
        assert (self.marks.healthy_at is not None) == (self.wanted.replicas > 0)
        assert self.marks.error is None

    def _all_goes_well(self) -> None:
        for attempt in list(self.engine.launching):
            self.engine.launching.remove(attempt)
            self.engine.start(attempt, self.now)
        for name in list(self.engine.stopping):
            self.engine.end(name, self.now, -15)
        for one in self.replicas:
            if one.phase is Phase.DRAINING:
                self.drained.add((one.id, one.attempt))
            if one.id in self.engine.running:
                for kind in ProbeKind:
                    self._check(one.id, kind, "+")
        if self.wake_at is not None:
            self.now = max(self.now, self.wake_at)


Deployments.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestDeployments = Deployments.TestCase
