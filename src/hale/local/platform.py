"""LocalPlatform: deployments on this machine, out of the parts of this package."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from hale.clock import Clock
from hale.core.deployment import Deployment, Machine, Template
from hale.core.event import Event
from hale.core.image import Credentials, Preparation
from hale.core.outlook import outlook
from hale.core.probe import TcpAction
from hale.core.replica import Phase, Replica
from hale.errors import StoreError
from hale.local.controller import Controller, unique_id
from hale.local.managed import Managed
from hale.local.prober import Begin
from hale.ports import Balancer, Engine, LogLine, Observation, Store, Volumes
from hale.settings import Address

log = logging.getLogger(__name__)

_TRIM_EVERY = 3600.0
_EVENTS_KEPT = 5000


class LocalPlatform:
    """The Platform port on this machine; `run` keeps it going. `gateway` is where requests come in."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        balancer: Balancer,
        begin: Begin,
        clock: Clock,
        *,
        volumes: Volumes,
        machines: Mapping[str, Machine] | None = None,
        gateway: Address,
        domain: str,
        new_id: Callable[[], str] = unique_id,
    ) -> None:
        self._store = store
        self._engine = engine
        self._balancer = balancer
        self._gateway = gateway
        self._domain = domain
        self._news = asyncio.Event()
        self._controller = Controller(
            store,
            engine,
            balancer,
            begin,
            clock,
            volumes=volumes,
            machines=machines or {},
            hosts=self.hosts,
            news=self._tell_followers,
            new_id=new_id,
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Adopt what runs, call `ready`, and go on until cancelled; replicas are left running then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run(ready))
            group.create_task(self._trim())

    def hosts(self, deployment: Deployment) -> tuple[str, ...]:
        """By its name, and by its id as Gradient does; the name of a deleted one is free for another."""
        by_id = f"d{deployment.id.replace('-', '')}.{self._domain}"
        return (by_id,) if deployment.deleted_at else (f"{deployment.slug}.{self._domain}", by_id)

    def endpoint(self, deployment: Deployment) -> str:
        port = "" if self._gateway.port == 80 else f":{self._gateway.port}"
        return f"{deployment.slug}.{self._domain}{port}"

    def unable(self, template: Template) -> str:
        return self._engine.unable(template)

    def notes(self, template: Template) -> Sequence[str]:
        return self._engine.notes(template)

    def preparation(self, deployment_id: str) -> Preparation | None:
        return self._controller.preparer.preparation(deployment_id)

    async def log_in(self, credentials: Credentials) -> None:
        await self._engine.log_in(credentials)

    def wake(self, deployment_id: str) -> None:
        self._controller.wake(deployment_id)
        self._tell_followers()

    async def observe(self, deployment_id: str) -> Sequence[Observation]:
        managed = self._controller.world.managed.get(deployment_id)
        if managed is None:
            return []
        alive = [r for r in managed.replicas.values() if r.phase is not Phase.STOPPED]
        return [self._observation(managed, replica) for replica in sorted(alive, key=_age)]

    def _observation(self, managed: Managed, replica: Replica) -> Observation:
        prober, template = self._controller.prober, managed.template(replica)
        health = prober.health(replica.id, replica.attempt)
        instance = self._controller.world.instance(replica)
        running = instance is not None and instance.running
        # The check that stands in where the spec has none is not one of the deployment's.
        probes = {k: p for k, p in template.probes.items() if not isinstance(p.action, TcpAction)}
        return Observation(
            replica=replica,
            address=f"{instance.address}:{next(iter(instance.ports.values()))}"
            if running and instance is not None and instance.ports
            else None,
            pid=instance.pid if running and instance is not None else None,
            checks={kind: health[kind] for kind in probes if kind in health},
            thresholds={kind: probe.failure_threshold for kind, probe in probes.items()},
            next=outlook(replica, template, health, prober.ticks(replica.id)),
            container=instance.container if running and instance is not None else None,
        )

    async def log_lines(self, replica_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[LogLine]:
        return await self._engine.log_lines(replica_id, after=after)

    async def follow(self, deployment_id: str | None, *, after: int) -> AsyncIterator[Event]:
        while True:
            news = self._news
            events = await self._store.events(deployment_id, after=after)
            for event in events:
                yield event
                after = event.id
            if not events:
                if deployment_id is not None and await self._store.deployment(deployment_id) is None:
                    return
                await news.wait()

    async def down(self) -> None:
        await self._controller.down()
        await self._balancer.stop()

    def _tell_followers(self) -> None:
        # Everyone who waits holds the old one.
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _trim(self) -> None:
        while True:
            try:
                await self._store.trim_events(_EVENTS_KEPT)
            except StoreError as error:
                log.warning("%s", error.message)
            await asyncio.sleep(_TRIM_EVERY)


def _age(replica: Replica) -> tuple[float, str]:
    return replica.created_at, replica.id
