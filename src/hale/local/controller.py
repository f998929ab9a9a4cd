"""Brings every deployment from what is to what should be: observe -> reconcile -> perform -> record.

A turn looks at one deployment, whatever woke it; what it decides between two awaits is decided on one
state of things. Two short ways spare a turn: a check's answer that changes traffic reaches the balancer
where it is recorded (`found`), and a replica that ended gets no more requests from that moment.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hale.clock import Clock
from hale.core.deployment import Deployment, Machine, Revision
from hale.core.event import Event, Level
from hale.core.lifecycle import settle
from hale.core.probe import Health, ProbeKind
from hale.core.reconcile import Observed, Plan, reconcile
from hale.core.replica import Phase, Replica
from hale.local import story
from hale.local.checks import Target
from hale.local.desired import Compiler, gone_down
from hale.local.executor import Executor
from hale.local.images import Images
from hale.local.journal import Journal
from hale.local.managed import Managed, World, server_id
from hale.local.preparer import Preparer
from hale.local.prober import Begin, Finding, Prober
from hale.local.shelf import Shelf
from hale.local.traffic import Traffic
from hale.local.turns import Turns
from hale.local.wanted import Wanted
from hale.ports import Balancer, Engine, Instance, Route, Store, Volumes

log = logging.getLogger(__name__)

_RETRY = 1.0
_DOWN_FLUSHES = 5
_WATCHED = frozenset({Phase.STARTING, Phase.UNREADY, Phase.READY})


def unique_id() -> str:
    return str(uuid.uuid4())


class Controller:
    """Owns the replicas.

    `hosts` gives the host names of a deployment's traffic; `news` is called when there are new events in
    the Store; `machines` are the limits of machine types; `new_id` names a new replica.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        balancer: Balancer,
        begin: Begin,
        clock: Clock,
        *,
        volumes: Volumes,
        machines: Mapping[str, Machine],
        hosts: Callable[[Deployment], tuple[str, ...]],
        news: Callable[[], None],
        new_id: Callable[[], str] = unique_id,
    ) -> None:
        self._store = store
        self._engine = engine
        self._balancer = balancer
        self._volumes = volumes
        self._clock = clock
        self._wanted = Wanted(store, Compiler(volumes.folder, machines))
        self._hosts = hosts
        self._news = news
        self._new_id = new_id
        self.world = World()
        self.prober = Prober(clock, begin, self.found)
        self.journal = Journal(store, self._look, news)
        self._traffic = Traffic(balancer, self.table, clock, self.journal.tell)
        self._turns = Turns(self._refresh, self._turn, self._trouble)
        self.nudge = self._turns.nudge
        self._executor: Executor
        self._shelf: Shelf
        self.preparer: Preparer
        self._launched: dict[str, int] = {}
        self._launches = 0
        self._stale: set[str] = set()
        self._down = False

    # --- lifetime ---------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None]) -> None:
        """Adopt what is there, call `ready`, then turn until cancelled; replicas are left as they are."""
        self._wanted.not_before = self._clock.now()
        try:
            async with asyncio.TaskGroup() as group:
                images = Images(self._engine, self._store)
                self._executor = Executor(self._engine, images, self._balancer, self, group)
                self._shelf = Shelf(self._volumes, self, group)
                self.preparer = Preparer(images, self._shelf, self._clock, self, group)
                self._engine.on_exit(self._exited)
                self._balancer.on_event(self.journal.tell)
                await self._adopt()
                group.create_task(self.journal.run())
                group.create_task(self._turns.run())
                group.create_task(self._traffic.run())
                ready()
        finally:
            self.prober.close()
            await self.journal.flush()  # with what the checks knew

    def wake(self, deployment_id: str) -> None:
        """What is wanted of this deployment, or what it needs, may have changed: look at both anew."""
        self._stale.add(deployment_id)
        self.nudge(deployment_id)

    async def down(self) -> None:
        """Retire every replica, and return when the last one is gone and that is written."""
        self._down = True
        for deployment_id in self.world.managed:
            self.preparer.cancel(deployment_id)
            self.nudge(deployment_id)
        await self._turns.until(lambda: all(map(self._over, self.world.managed.values())))
        await self._executor.no_strays()
        for _ in range(_DOWN_FLUSHES):
            if await self.journal.flush():
                break
            await asyncio.sleep(_RETRY)

    async def _adopt(self) -> None:
        """Take over replicas that outlived the daemon before this one; end those that nobody knows."""
        await self._observe_engine()
        for deployment in await self._store.deployments():
            self.wake(deployment.id)
            await self._turns.attempt(self._refresh, deployment.id)
        remembered = {replica.id for replica, _ in await self._store.replicas(finished=True)}
        for replica_id in [each for each in self.world.instances if each not in remembered]:
            log.warning("replica %s belongs to no deployment: ending it", replica_id)
            self._executor.end_stray(replica_id)
        # Every deployment has its turn before the gateway hears of the first: a table in the making
        # would take away routes that work.
        await self._turns.take()
        self._traffic.changed()

    # --- a turn -----------------------------------------------------------------------------

    async def _turn(self, deployment_id: str) -> None:
        managed = self.world.managed.get(deployment_id)
        if managed is None:
            return
        await self._wanted.load_templates(managed)
        self._prepare(managed)
        await self._observe_engine()
        plan = self._decide(managed)
        # What is begun was written down before, or nobody would know of it after a crash.
        await self.journal.flush()
        for action in plan.actions:
            # What changed meanwhile has woken another turn.
            if managed.replicas.get(action.replica.id) == action.replica:
                self._executor.perform(action, managed.deployment, managed.template(action.replica))
        if plan.wake_at is not None:
            self._nudge_at(managed, plan.wake_at)
        if managed.deployment.deleted_at is None or self._down or not self._over(managed):
            self._shelf.keep(deployment_id, managed.used_volumes(self.world.lives))
        elif self._shelf.keep(deployment_id, frozenset(), wait=True):
            await self._remove(managed)

    def _prepare(self, managed: Managed) -> None:
        if managed.desired.prepared or self._down:
            self.preparer.cancel(managed.deployment.id)
        else:
            self.preparer.prepare(managed.newest, managed.desired.template)

    async def _refresh(self, deployment_id: str) -> None:
        """Read what is wanted, if that may have changed."""
        if deployment_id not in self._stale:
            return
        self._stale.discard(deployment_id)
        try:
            await self._read(deployment_id)
        except BaseException:
            self._stale.add(deployment_id)
            raise

    async def _read(self, deployment_id: str) -> None:
        deployment = await self._store.deployment(deployment_id)
        revisions = await self._store.revisions(deployment_id, limit=1) if deployment else []
        if deployment is None or not revisions:
            self._drop(deployment_id)
            return
        managed = self.world.managed.get(deployment_id)
        if managed is None:
            await self._take_on(deployment, revisions[0])
        else:
            self._wanted.renew(managed, deployment, revisions[0])
            self.preparer.hurry(managed.newest)
        self._traffic.changed()

    async def _take_on(self, deployment: Deployment, newest: Revision) -> None:
        """From now on we look after it and all the replicas that the Store knows of it, or after none."""
        managed, states = await self._wanted.take_on(deployment, newest)
        self.world.take_on(managed)
        for replica, health in states:
            self._watch(managed, replica, health)

    async def _observe_engine(self) -> None:
        """What the engine holds; what came in while it answered is newer than its answer."""
        before, ended = self._launches, set(self.world.ended)
        instances = {instance.replica_id: instance for instance in await self._engine.instances()}
        self._launched = {known: number for known, number in self._launched.items() if number > before}
        for replica_id in self._launched.keys() & self.world.instances.keys():
            instances[replica_id] = self.world.instances[replica_id]
        self.world.instances = instances
        self.world.ended -= ended

    def _decide(self, managed: Managed) -> Plan:
        """Reconcile, and take the outcome over; nothing else runs in between."""
        if self._down:
            managed.desired = gone_down(managed.desired)
        observed = Observed(
            replicas=tuple(managed.replicas.values()),
            facts={
                replica.id: self.world.facts(replica, self.prober.health(replica.id, replica.attempt))
                for replica in managed.replicas.values()
            },
            templates=managed.templates,
            marks=managed.marks,
            new_id=self._new_id,
            obstacle=self.preparer.obstacle(managed.deployment.id),
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
            self._traffic.set_ready(before, ready=False)
        if after.phase is Phase.READY and (before is None or before.phase is not Phase.READY):
            self._traffic.set_ready(after, ready=True)
        if before is not None and before.phase is Phase.DRAINING is not after.phase:
            self._executor.undrain(before)
        if before is not None and before.phase is Phase.PENDING and after.phase is Phase.STOPPED:
            self._executor.abandon(before)
        if after.phase in _WATCHED:
            self._watch(managed, after)
        else:
            self.prober.halt(after.id)
        self._traffic.changed()

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
        self.journal.tell(*story.of_finding(replica, finding, self._clock.now()))
        ended = finding.result.ok and finding.before.ok is False
        if ended or not (finding.result.ok or finding.result.eager):
            # Failures that count are written down, and that their row has ended: a replica's budget goes on
            # over a restart of hale, neither shorter nor longer.
            self.journal.changed(replica.id)
        if finding.turned:
            self._settle(managed, replica)
            self.nudge(replica.deployment_id)

    def _nudge_at(self, managed: Managed, at: float) -> None:
        if managed.timer is not None:
            managed.timer.cancel()
        loop, deployment_id = asyncio.get_running_loop(), managed.deployment.id
        managed.timer = loop.call_at(self._clock.loop_time(at), self.nudge, deployment_id)

    def _settle(self, managed: Managed, replica: Replica) -> None:
        facts = self.world.facts(replica, self.prober.health(replica.id, replica.attempt))
        after, events = settle(replica, managed.template(replica), facts, self._clock.now())
        self._take_over(managed, after)
        self._tell(managed, events)

    def _exited(self, replica_id: str) -> None:
        """The engine saw it end: no request goes there while a turn is on its way."""
        known = self.world.find(replica_id)
        if known is None:
            return
        if known[1].phase is Phase.READY:
            self.world.ended.add(server_id(known[1]))
            self._traffic.set_ready(known[1], ready=False)
        self.nudge(known[1].deployment_id)

    # --- outcomes of actions ----------------------------------------------------------------

    def launched(self, replica: Replica, instance: Instance) -> None:
        self._launches += 1
        self._launched[replica.id] = self._launches
        self.world.instances[replica.id] = instance
        self.world.settle_outcomes(replica.id)
        known = self.world.find(replica.id)
        if known is not None:
            self._note(known[0], replica, instance.notes)
        if known is None:
            # It was forgotten while it was being started.
            self._executor.end_stray(replica.id)
        elif known[1].attempt == replica.attempt:
            self._settle(*known)
        self.nudge(replica.deployment_id)

    def _note(self, managed: Managed, replica: Replica, notes: Sequence[str]) -> None:
        """Each once for a revision, whichever of its replicas is started first."""
        for note in notes:
            if managed.noted.get(note, 0) < replica.revision:
                managed.noted[note] = replica.revision
                self._warn(replica, "replica.note", note)

    def refused(self, replica: Replica, why: str) -> None:
        self.world.settle_outcomes(replica.id)
        self.world.refused[replica.id, replica.attempt] = why
        self.nudge(replica.deployment_id)

    def drained(self, replica: Replica) -> None:
        self.world.drained.add((replica.id, replica.attempt))
        self.nudge(replica.deployment_id)

    def stopped(self, replica: Replica) -> None:
        self.world.settle_outcomes(replica.id)
        self.nudge(replica.deployment_id)

    def abandoned(self, replica: Replica) -> None:
        self.nudge(replica.deployment_id)

    def image_gone(self, replica: Replica, reference: str) -> None:
        self.journal.tell(story.gone(reference).of(replica, self._clock.now()))

    def image_changed(self, replica: Replica, name: str, reference: str) -> None:
        self.journal.tell(story.changed(name, reference).of(replica, self._clock.now()))

    def failing(self, replica: Replica, why: str) -> None:
        """It is tried again and again, and told once."""
        if self.world.find(replica.id) is not None and self.world.troubles.get(replica.id) != why:
            self.world.troubles[replica.id] = why
            self._warn(replica, "replica.trouble", why)
        self.nudge(replica.deployment_id)

    async def forgotten(self, replica: Replica) -> None:
        await self._store.delete_replica(replica.id)
        self._let_go(replica.id)

    # --- what revisions need ----------------------------------------------------------------

    def prepared(self, deployment_id: str, number: int, image: str | None) -> None:
        """The Store is told in the turn that follows, before anything is started."""
        managed = self.world.managed.get(deployment_id)
        if managed is None or managed.newest.number != number:
            return
        now = self._clock.now()
        self.journal.prepared(deployment_id, number, image, now)
        newest = replace(managed.newest, image=image, prepared_at=now)
        self._wanted.renew(managed, managed.deployment, newest)
        self._traffic.changed()  # its password counts from now on
        self.nudge(deployment_id)

    def troubled(self, deployment_id: str, why: str) -> None:
        """Not the revision's affair, nor a replica's; it is tried again and again."""
        self._turns.troubled(deployment_id, why)

    def tell(self, event: Event) -> None:
        self.journal.tell(event)

    def _let_go(self, replica_id: str) -> None:
        self.prober.forget(replica_id)
        self.world.forget(replica_id)

    async def _remove(self, managed: Managed) -> None:
        """A deleted deployment goes when its last replica has ended, with all that was kept of it."""
        for replica_id in list(managed.replicas):
            await self._engine.remove(replica_id)
        # Nothing is to be written of it behind its end.
        self.journal.drop(managed.deployment.id, list(managed.replicas))
        await self._store.delete_deployment(managed.deployment.id)
        self._drop(managed.deployment.id)

    def _over(self, managed: Managed) -> bool:
        """Nothing of it runs, nor is about to: a start that is under way is seen through, and ended."""
        return self.world.over(managed) and not self._executor.busy(managed.replicas)

    def _drop(self, deployment_id: str) -> None:
        managed = self.world.managed.get(deployment_id)
        if managed is None:
            return
        if managed.timer is not None:
            managed.timer.cancel()
        self.journal.drop(deployment_id, list(managed.replicas))
        self.preparer.cancel(deployment_id)
        self._shelf.forget(deployment_id)
        self._turns.forget(deployment_id)
        for replica_id in list(managed.replicas):
            self._let_go(replica_id)
        del self.world.managed[deployment_id]
        self._traffic.changed()
        self._news()

    # --- events -----------------------------------------------------------------------------

    def _tell(self, managed: Managed, events: Sequence[Event]) -> None:
        places = self.world.instances
        self.journal.tell(*(story.detailed(event, places.get(event.replica_id or "")) for event in events))
        self.journal.tell(*story.of_service(managed, self._clock.now()))

    def _trouble(self, deployment_id: str, why: str) -> None:
        self.journal.tell(
            Event(self._clock.now(), "deployment.trouble", why, deployment_id, level=Level.WARNING)
        )

    def _warn(self, replica: Replica, kind: str, message: str) -> None:
        self.journal.tell(story.warning(replica, kind, message, self._clock.now()))

    def _look(self, replica_id: str) -> tuple[Replica, Mapping[ProbeKind, Health]] | None:
        known = self.world.find(replica_id)
        return (known[1], self.prober.health(replica_id, known[1].attempt)) if known else None

    # --- traffic ----------------------------------------------------------------------------

    def table(self) -> Sequence[Route]:
        """The traffic of every deployment as it should be; one that is deleted keeps its route to the end."""
        return [
            self.world.route(managed, self._hosts(managed.deployment))
            for managed in self.world.managed.values()
        ]
