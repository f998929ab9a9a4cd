"""Performs the actions of plans, each in a task of its own, once at a time; tells of the outcome.

What an action finds goes back as a fact (`Outcomes`) and a wake: what follows from it is decided there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeVar

from hale.core.deployment import Deployment, Pull, Template
from hale.core.reconcile import Action, Drain, Forget, Launch, Stop
from hale.core.replica import Replica
from hale.errors import EngineError, EngineUnavailableError, HaleError, ImageGoneError, PreparationError
from hale.local.images import Images, unheard
from hale.local.managed import server_id
from hale.ports import Balancer, Engine, Instance
from hale.ports import Launch as EngineLaunch

log = logging.getLogger(__name__)

T = TypeVar("T")

_DRAIN_POLL = 0.05
_RETRY = 1.0
_STRAY_GRACE = 10.0


class Outcomes(Protocol):
    """What became of actions. Each call may lead to another turn of the deployment."""

    def launched(self, replica: Replica, instance: Instance) -> None: ...
    def refused(self, replica: Replica, why: str) -> None: ...
    def drained(self, replica: Replica) -> None: ...
    def stopped(self, replica: Replica) -> None: ...
    def failing(self, replica: Replica, why: str) -> None: ...
    def image_gone(self, replica: Replica, reference: str) -> None: ...
    def image_changed(self, replica: Replica, name: str, reference: str) -> None: ...
    def abandoned(self, replica: Replica) -> None: ...
    async def forgotten(self, replica: Replica) -> None: ...


class Executor:
    """`perform` returns at once; the same action asked for again while it is under way is one action."""

    def __init__(
        self,
        engine: Engine,
        images: Images,
        balancer: Balancer,
        outcomes: Outcomes,
        group: asyncio.TaskGroup,
    ) -> None:
        self._engine = engine
        self._images = images
        self._balancer = balancer
        self._outcomes = outcomes
        self._group = group
        self._under_way: set[tuple[type[Action], str, int]] = set()
        self._fetching: dict[tuple[str, int], asyncio.Task[object]] = {}
        self._draining: dict[str, Replica] = {}
        self._strays: set[str] = set()
        self._no_strays = asyncio.Event()
        self._no_strays.set()

    def perform(self, action: Action, deployment: Deployment, template: Template) -> None:
        match action:
            case Launch(replica):
                self._begin(action, lambda: self._launch(replica, deployment, template))
            case Drain(replica):
                self._drain(replica)
            case Stop(replica, grace):
                self._begin(action, lambda: self._stop(replica, grace))
            case Forget(replica):
                self._begin(action, lambda: self._forget(replica))

    def busy(self, replica_ids: Collection[str]) -> bool:
        """Whether one of them is being started, or ended with all of its group."""
        return any(
            kind in (Launch, Stop) and replica_id in replica_ids for kind, replica_id, _ in self._under_way
        )

    def end_stray(self, replica_id: str) -> None:
        """End and forget what belongs to no deployment, however often it takes."""
        if replica_id not in self._strays:
            self._strays.add(replica_id)
            self._no_strays.clear()
            self._group.create_task(self._end_stray(replica_id))

    async def no_strays(self) -> None:
        """Return once none is left."""
        await self._no_strays.wait()

    async def _end_stray(self, replica_id: str) -> None:
        told = ""
        while replica_id in self._strays:
            try:
                await self._engine.stop(replica_id, grace=_STRAY_GRACE)
                await self._engine.remove(replica_id)
                self._strays.discard(replica_id)
            except Exception as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("cannot end replica %s: %s", replica_id, error, exc_info=_unforeseen(error))
                await asyncio.sleep(_RETRY)
        if not self._strays:
            self._no_strays.set()

    def _begin(self, action: Action, do: Callable[[], Awaitable[None]]) -> None:
        key = (type(action), action.replica.id, action.replica.attempt)
        if key not in self._under_way:
            self._under_way.add(key)
            self._group.create_task(self._carry_out(action, key, do))

    async def _carry_out(
        self, action: Action, key: tuple[type[Action], str, int], do: Callable[[], Awaitable[None]]
    ) -> None:
        doing = f"{type(action).__name__.lower()} replica {action.replica.id}"
        try:
            await do()
        except HaleError as error:
            await self._troubled(action.replica, error.message, key)
        except Exception:
            log.exception("cannot %s", doing)
            await self._troubled(action.replica, f"cannot {doing}: see the log of hale", key)
        finally:
            self._under_way.discard(key)

    async def _troubled(self, replica: Replica, why: str, key: tuple[type[Action], str, int]) -> None:
        """Leave a pause before the next turn asks for the same again."""
        await asyncio.sleep(_RETRY)
        self._under_way.discard(key)
        self._outcomes.failing(replica, why)

    async def _launch(self, replica: Replica, deployment: Deployment, template: Template) -> None:
        try:
            if template.image is not None and template.pull is Pull.ALWAYS:
                template = await self._newest(replica, template)
            instance = await self._start(replica, deployment, template)
        except EngineUnavailableError:
            raise  # says nothing about this replica
        except EngineError as error:
            self._outcomes.refused(replica, error.message)
        except PreparationError as error:
            self._outcomes.refused(replica, error.one_line)
        else:
            self._outcomes.launched(replica, instance)

    async def _newest(self, replica: Replica, template: Template) -> Template:
        newest = await self._fetch(replica, self._images.newest(template))
        if newest.pinned is not None and newest.pinned != template.pinned:
            self._outcomes.image_changed(replica, template.image or "", newest.pinned)
        return newest

    async def _start(self, replica: Replica, deployment: Deployment, template: Template) -> Instance:
        launch = EngineLaunch(
            replica.id, replica.attempt, deployment.id, deployment.slug, replica.revision, template
        )
        try:
            return await self._engine.start(launch)
        except ImageGoneError:
            reference = template.pinned or template.image
            if reference is None or template.pull is Pull.NEVER:
                raise
            self._outcomes.image_gone(replica, reference)
            await self._fetch(replica, self._images.pull(template, reference, unheard))
            return await self._engine.start(launch)

    async def _fetch(self, replica: Replica, fetching: Awaitable[T]) -> T:
        """Wait for an image that a start needs, unless the replica is given up meanwhile."""
        key = (replica.id, replica.attempt)
        self._fetching[key] = _this_task()
        try:
            return await fetching
        except asyncio.CancelledError:
            self._outcomes.abandoned(replica)
            raise
        finally:
            del self._fetching[key]

    def abandon(self, replica: Replica) -> None:
        """It is not to be started any more: its image is not waited for."""
        if task := self._fetching.get((replica.id, replica.attempt)):
            task.cancel()

    async def _stop(self, replica: Replica, grace: float) -> None:
        await self._engine.stop(replica.id, grace=grace)
        self._outcomes.stopped(replica)

    async def _forget(self, replica: Replica) -> None:
        await self._engine.remove(replica.id)
        await self._outcomes.forgotten(replica)

    def _drain(self, replica: Replica) -> None:
        """All that drain are asked about together."""
        if not self._draining:
            self._group.create_task(self._watch_draining())
        self._draining[server_id(replica)] = replica

    async def _watch_draining(self) -> None:
        while self._draining:
            # The order to send nothing more is on its way: requests that just came are counted, too.
            await asyncio.sleep(_DRAIN_POLL)
            try:
                flights = await self._balancer.in_flight()
            except Exception as error:
                log.warning("cannot count requests under way: %s", error, exc_info=_unforeseen(error))
                await asyncio.sleep(_RETRY)
                continue
            for server in [server for server in self._draining if not flights.get(server)]:
                self._outcomes.drained(self._draining.pop(server))

    def undrain(self, replica: Replica) -> None:
        """It is gone, or out of patience: no more asking."""
        self._draining.pop(server_id(replica), None)


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (called within one)
    return task


def _unforeseen(error: Exception) -> bool:
    """Whether its trace is worth a look."""
    return not isinstance(error, HaleError)
