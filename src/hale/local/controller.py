"""Brings every deployment from what is to what should be: observe -> reconcile -> perform -> record.

A turn looks at one deployment, whatever woke it; what it decides between two awaits is decided on one
state of things. Two short ways spare a turn: a check's answer that changes traffic reaches the balancer
where it is recorded (`found`), and a replica that ended gets no more requests from that moment.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from hale.clock import Clock
from hale.core.deployment import Deployment, Template
from hale.core.event import Event, Level
from hale.core.lifecycle import settle
from hale.core.probe import Health, ProbeKind, TcpAction
from hale.core.reconcile import Marks, Observed, Plan, reconcile
from hale.core.replica import Phase, Replica
from hale.core.words import outcome
from hale.errors import HaleError
from hale.local.checks import Target
from hale.local.desired import desired_of, templates_of
from hale.local.executor import Executor
from hale.local.journal import Journal
from hale.local.managed import Managed, World, server_id
from hale.local.prober import Begin, Finding, Prober
from hale.ports import Balancer, Engine, Instance, Route, Store

log = logging.getLogger(__name__)

_RETRY = 1.0
_DOWN_FLUSHES = 5
_WATCHED = frozenset({Phase.STARTING, Phase.UNREADY, Phase.READY})


def unique_id() -> str:
    return str(uuid.uuid4())


class Controller:
    """Owns the replicas.

    `hosts` gives the host names of a deployment's traffic; `news` is called when there are new events in
    the Store; `new_id` names a new replica.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        balancer: Balancer,
        begin: Begin,
        clock: Clock,
        *,
        hosts: Callable[[Deployment], tuple[str, ...]],
        news: Callable[[], None],
        new_id: Callable[[], str] = unique_id,
    ) -> None:
        self._store = store
        self._engine = engine
        self._balancer = balancer
        self._clock = clock
        self._hosts = hosts
        self._news = news
        self._new_id = new_id
        self.world = World()
        self.prober = Prober(clock, begin, self.found)
        self.journal = Journal(store, self._look, news)
        self._executor: Executor
        self._launched: dict[str, int] = {}
        self._launches = 0
        self._stale: set[str] = set()
        self._woken: dict[str, None] = {}
        self._awake = asyncio.Event()
        self._turned = asyncio.Event()
        self._table_changed = asyncio.Event()
        self._started_at = 0.0
        self._down = False

    # --- lifetime ---------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None]) -> None:
        """Adopt what is there, call `ready`, then turn until cancelled; replicas are left as they are."""
        self._started_at = self._clock.now()
        try:
            async with asyncio.TaskGroup() as group:
                self._executor = Executor(self._engine, self._balancer, self, group)
                self._engine.on_exit(self._exited)
                self._balancer.on_event(self.journal.tell)
                await self._adopt()
                group.create_task(self.journal.run())
                group.create_task(self._turn_for_ever())
                group.create_task(self._carry_traffic())
                ready()
        finally:
            self.prober.close()

    def wake(self, deployment_id: str) -> None:
        """What is wanted of this deployment may have changed: read it anew and look at it."""
        self._stale.add(deployment_id)
        self._nudge(deployment_id)

    def _nudge(self, deployment_id: str) -> None:
        self._woken[deployment_id] = None
        self._awake.set()

    async def down(self) -> None:
        """Retire every replica, and return when the last one is gone and that is written."""
        self._down = True
        for deployment_id in self.world.managed:
            self.wake(deployment_id)
        while not all(map(self._over, self.world.managed.values())):
            self._turned.clear()
            await self._turned.wait()
        for _ in range(_DOWN_FLUSHES):
            if await self.journal.flush():
                break
            await asyncio.sleep(_RETRY)

    async def _adopt(self) -> None:
        """Take over replicas that outlived the daemon before this one; end those that nobody knows."""
        await self._observe_engine()
        for deployment in await self._store.deployments():
            self._stale.add(deployment.id)
            await self._try_to(self._refresh, deployment.id)
        states = await self._store.replicas(finished=True)
        for replica, _ in states:
            self.world.adopt(replica)
        for managed in self.world.managed.values():
            await self._load_templates(managed)
        for replica, health in states:
            known = self.world.find(replica.id)
            if known is not None:
                self._watch(*known, health)
        for replica_id in self.world.strays():
            log.warning("replica %s belongs to no deployment: ending it", replica_id)
            self._executor.end_stray(replica_id)
        # Every deployment has its turn before the gateway hears of the first: a table in the making
        # would take away routes that work.
        for deployment_id in list(self.world.managed):
            await self._try_to(self._turn, deployment_id)
        self._table_changed.set()

    async def _turn_for_ever(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            woken, self._woken = self._woken, {}
            for deployment_id in woken:
                await self._try_to(self._turn, deployment_id)
            self._turned.set()

    async def _try_to(self, do: Callable[[str], Awaitable[None]], deployment_id: str) -> None:
        """One deployment's trouble is not another's."""
        try:
            await do(deployment_id)
        except HaleError as error:
            log.warning("deployment %s: %s", deployment_id, error.message)
            self._nudge_at(deployment_id, self._clock.now() + _RETRY)
        except Exception:
            log.exception("deployment %s: its turn broke off", deployment_id)
            self._nudge_at(deployment_id, self._clock.now() + _RETRY)

    # --- a turn -----------------------------------------------------------------------------

    async def _turn(self, deployment_id: str) -> None:
        await self._refresh(deployment_id)
        managed = self.world.managed.get(deployment_id)
        if managed is None:
            return
        await self._load_templates(managed)
        await self._observe_engine()
        plan = self._decide(managed)
        await self.journal.flush()
        for action in plan.actions:
            self._executor.perform(action, managed.deployment, managed.template(action.replica))
        if plan.wake_at is not None:
            self._nudge_at(deployment_id, plan.wake_at)
        if managed.deployment.deleted_at is not None and self._over(managed) and not self._down:
            await self._remove(managed)

    async def _refresh(self, deployment_id: str) -> None:
        """Read what is wanted, if that may have changed."""
        if deployment_id not in self._stale:
            return
        self._stale.discard(deployment_id)
        try:
            deployment = await self._store.deployment(deployment_id)
            revisions = await self._store.revisions(deployment_id) if deployment else []
        except HaleError:
            self._stale.add(deployment_id)
            raise
        if deployment is None or not revisions:
            self._drop(deployment_id)
            return
        newest = revisions[0]
        desired = desired_of(deployment, newest, down=self._down, not_before=self._started_at)
        managed = self.world.managed.get(deployment_id)
        marks = Marks(newest.applied_at, newest.healthy_at, newest.error)
        if managed is None:
            managed = self.world.managed[deployment_id] = Managed(deployment, desired, marks)
        elif managed.desired.revision != desired.revision:
            managed.marks = marks
        managed.deployment, managed.desired = deployment, desired
        managed.templates[desired.template.key] = desired.template
        self._table_changed.set()

    async def _load_templates(self, managed: Managed) -> None:
        missing = {replica.template for replica in managed.replicas.values()} - managed.templates.keys()
        if not missing:
            return
        revisions = await self._store.revisions(managed.deployment.id)
        managed.templates.update(templates_of(revisions, sorted(missing)))
        for key in missing - managed.templates.keys():
            log.warning("deployment %s: no revision has template %s", managed.deployment.id, key)
            managed.templates[key] = Template(key)

    async def _observe_engine(self) -> None:
        """What the engine holds; a launch that came back meanwhile is newer than its answer."""
        before = self._launches
        instances = {instance.replica_id: instance for instance in await self._engine.instances()}
        for replica_id, number in self._launched.items():
            if number > before and replica_id in self.world.instances:
                instances[replica_id] = self.world.instances[replica_id]
        self.world.instances = instances

    def _decide(self, managed: Managed) -> Plan:
        """Reconcile, and take the outcome over; nothing else runs in between."""
        observed = Observed(
            replicas=tuple(managed.replicas.values()),
            facts={
                replica.id: self.world.facts(replica, self.prober.health(replica.id, replica.attempt))
                for replica in managed.replicas.values()
            },
            templates=managed.templates,
            marks=managed.marks,
            new_id=self._new_id,
        )
        plan = reconcile(managed.desired, observed, self._clock.now())
        for replica in plan.replicas:
            self._take_over(managed, replica)
        self._tell(managed, plan.events)
        if plan.marks != managed.marks:
            managed.marks = plan.marks
            self.journal.mark(managed.deployment.id, managed.desired.revision, plan.marks)
        return plan

    def _take_over(self, managed: Managed, after: Replica) -> None:
        """The one place where a replica changes: traffic and checks follow in the same turn of the loop."""
        before = managed.replicas.get(after.id)
        if before == after:
            return
        managed.replicas[after.id] = after
        self.world.owners[after.id] = managed.deployment.id
        self.journal.changed(after.id)
        if before is not None and before.phase is Phase.READY is not after.phase:
            self._balancer.set_ready(server_id(before), ready=False)
        if after.phase is Phase.READY and (before is None or before.phase is not Phase.READY):
            self._balancer.set_ready(server_id(after), ready=True)
        if before is not None and before.phase is Phase.DRAINING is not after.phase:
            self._executor.undrain(before)
        if after.phase in _WATCHED:
            self._watch(managed, after)
        else:
            self.prober.halt(after.id)
        self._table_changed.set()

    def _watch(
        self, managed: Managed, replica: Replica, health: Mapping[ProbeKind, Health] | None = None
    ) -> None:
        instance = self.world.instance(replica)
        if replica.phase in _WATCHED and instance is not None and instance.running:
            target = Target(replica.id, instance.address, instance.ports)
            self.prober.watch(replica, target, managed.template(replica), health)

    # --- the short ways ---------------------------------------------------------------------

    def found(self, finding: Finding) -> None:
        """A check's answer: what it changes for its replica is done before any other check is looked at."""
        known = self.world.find(finding.replica_id)
        if known is None or known[1].attempt != finding.attempt:
            return
        managed, replica = known
        self._tell_finding(replica, finding)
        if finding.turned:
            self._settle(managed, replica)
            self._nudge(replica.deployment_id)

    def _settle(self, managed: Managed, replica: Replica) -> None:
        facts = self.world.facts(replica, self.prober.health(replica.id, replica.attempt))
        after, events = settle(replica, managed.template(replica), facts, self._clock.now())
        self._take_over(managed, after)
        self._tell(managed, events)

    def _exited(self, replica_id: str) -> None:
        """The engine saw it end: no request goes there while a turn is on its way."""
        known = self.world.find(replica_id)
        if known is not None and known[1].phase is Phase.READY:
            self._balancer.set_ready(server_id(known[1]), ready=False)
        if known is not None:
            self._nudge(known[1].deployment_id)

    # --- outcomes of actions ----------------------------------------------------------------

    def launched(self, replica: Replica, instance: Instance) -> None:
        self._launches += 1
        self._launched[replica.id] = self._launches
        self.world.instances[replica.id] = instance
        for note in instance.notes:
            self._about(replica, "replica.note", note)
        known = self.world.find(replica.id)
        if known is None:
            # It was forgotten while it was being started.
            self._executor.end_stray(replica.id)
        elif known[1].attempt == replica.attempt:
            self._settle(*known)
        self._nudge(replica.deployment_id)

    def refused(self, replica: Replica, why: str) -> None:
        self.world.settle_outcomes(replica.id)
        self.world.refused[replica.id, replica.attempt] = why
        self._nudge(replica.deployment_id)

    def drained(self, replica: Replica) -> None:
        self.world.drained.add((replica.id, replica.attempt))
        self._nudge(replica.deployment_id)

    def stopped(self, replica: Replica) -> None:
        self.world.settle_outcomes(replica.id)
        self._nudge(replica.deployment_id)

    def troubled(self, replica: Replica, why: str) -> None:
        if self.world.find(replica.id) is not None:
            self._about(replica, "replica.trouble", why)
        self._nudge(replica.deployment_id)

    async def forgotten(self, replica: Replica) -> None:
        await self._store.delete_replica(replica.id)
        self._let_go(replica.id)

    def _let_go(self, replica_id: str) -> None:
        self.prober.forget(replica_id)
        self.world.forget(replica_id)
        self._launched.pop(replica_id, None)

    async def _remove(self, managed: Managed) -> None:
        """A deleted deployment goes when its last replica has ended, with all that was kept of it."""
        for replica_id in list(managed.replicas):
            await self._engine.remove(replica_id)
        await self._store.delete_deployment(managed.deployment.id)
        self._drop(managed.deployment.id)

    def _over(self, managed: Managed) -> bool:
        """Nothing of it runs, nor is about to: a start that is under way is seen through, and ended."""
        return self.world.over(managed) and not self._executor.launching(managed.replicas)

    def _drop(self, deployment_id: str) -> None:
        managed = self.world.managed.get(deployment_id)
        if managed is None:
            return
        if managed.timer is not None:
            managed.timer.cancel()
        self.journal.drop(deployment_id, list(managed.replicas))
        for replica_id in list(managed.replicas):
            self._let_go(replica_id)
        del self.world.managed[deployment_id]
        self._table_changed.set()
        self._news()

    # --- events -----------------------------------------------------------------------------

    def _tell(self, managed: Managed, events: Sequence[Event]) -> None:
        self.journal.tell(*map(self._detailed, events))
        serving = any(replica.phase is Phase.READY for replica in managed.replicas.values())
        if serving == managed.serving:
            return
        managed.serving = serving
        now, deployment_id = self._clock.now(), managed.deployment.id
        if serving:
            self.journal.tell(Event(now, "deployment.serving", "requests are served", deployment_id))
            return
        text = "no ready replica: requests are answered with 503"
        level = Level.WARNING if managed.desired.replicas else Level.NORMAL
        self.journal.tell(Event(now, "deployment.not_serving", text, deployment_id, level=level))

    def _detailed(self, event: Event) -> Event:
        """Where it runs, which only the engine knows."""
        instance = self.world.instances.get(event.replica_id or "")
        if event.type != "replica.started" or instance is None:
            return event
        ports = ", ".join(f"{declared} is {actual}" for declared, actual in instance.ports.items())
        pid = f", pid {instance.pid}" if instance.pid else ""
        return replace(event, message=f"{event.message}{pid}" + (f", port {ports}" if ports else ""))

    def _tell_finding(self, replica: Replica, finding: Finding) -> None:
        probe, result, after = finding.probe, finding.result, finding.after
        previous = finding.before.last
        if result.warning and (previous is None or previous.warning != result.warning):
            self._about(replica, "check.warning", f"{probe.kind} check: {result.warning}")
        if result.ok or result.eager:
            return
        # Counted failures are written down; the budget of a replica goes on over a restart of hale.
        self.journal.changed(replica.id)
        if after.streak <= probe.failure_threshold and not isinstance(probe.action, TcpAction):
            text = f"{probe.kind} check failed {after.streak} of {probe.failure_threshold}: {outcome(result)}"
            self._about(replica, "check.failed", text)

    def _about(self, replica: Replica, type_: str, message: str) -> None:
        self.journal.tell(
            Event(
                self._clock.now(),
                type_,
                message,
                replica.deployment_id,
                replica.revision,
                replica.id,
                replica.attempt,
                Level.WARNING,
            )
        )

    def _look(self, replica_id: str) -> tuple[Replica, Mapping[ProbeKind, Health]] | None:
        known = self.world.find(replica_id)
        return (known[1], self.prober.health(replica_id, known[1].attempt)) if known else None

    def _nudge_at(self, deployment_id: str, at: float) -> None:
        managed = self.world.managed.get(deployment_id)
        if managed is None:
            return
        if managed.timer is not None:
            managed.timer.cancel()
        loop = asyncio.get_running_loop()
        managed.timer = loop.call_at(self._clock.loop_time(at), self._nudge, deployment_id)

    # --- traffic ----------------------------------------------------------------------------

    def table(self) -> Sequence[Route]:
        """The traffic of every deployment as it should be; one that is deleted keeps its route to the end."""
        return [
            self.world.route(managed, self._hosts(managed.deployment))
            for managed in self.world.managed.values()
        ]

    async def _carry_traffic(self) -> None:
        """Give the balancer the whole table whenever it changed; a failure is told once and tried again."""
        failing = ""
        while True:
            await self._table_changed.wait()
            self._table_changed.clear()
            try:
                await self._balancer.apply(self.table())
                failing = ""
            except Exception as error:
                why = error.message if isinstance(error, HaleError) else f"cannot tell the gateway: {error!r}"
                if why != failing:
                    failing = why
                    log.warning(why, exc_info=not isinstance(error, HaleError))
                    self.journal.tell(Event(self._clock.now(), "gateway.trouble", why, level=Level.WARNING))
                await asyncio.sleep(_RETRY)
                self._table_changed.set()
