"""Prepares revisions: pulls the image, fills the volumes; until then nothing is started for them.

Of each deployment the newest revision alone is prepared. What is done can be done again: a hale that was
killed meanwhile begins anew.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from hale.clock import Clock
from hale.core.backoff import Backoff
from hale.core.deployment import Revision, Template
from hale.core.event import Event, Level
from hale.core.image import Preparation, Progress
from hale.core.reconcile import Obstacle
from hale.core.volume import Source
from hale.errors import EngineUnavailableError, HaleError, PreparationError, StoreError
from hale.local import story
from hale.local.images import Images
from hale.local.shelf import Shelf

log = logging.getLogger(__name__)

_RETRY = 1.0
_BACKOFF = Backoff()


class Outcomes(Protocol):
    """What became of preparations. Each call may lead to another turn of the deployment."""

    def prepared(self, deployment_id: str, number: int, image: str | None) -> None:
        """`image` is what its image's name stands for; None if it stands for itself, or there is none."""

    def troubled(self, deployment_id: str, why: str) -> None:
        """What stands in the way is not the revision's affair; it is tried again and again."""

    def nudge(self, deployment_id: str) -> None: ...
    def tell(self, event: Event) -> None: ...


@dataclass(slots=True)
class _Job:
    """One revision's preparation: how far it is, and what was told of it."""

    revision: Revision
    template: Template
    preparation: Preparation
    image: str | None
    fetched: bool = False
    obstacle: Obstacle | None = None
    told: set[str] = field(default_factory=set)
    trouble: str = ""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def on(self, doing: str) -> None:
        """From now on it does this."""
        self.preparation = replace(self.preparation, doing=doing, progress=Progress(), retry_at=None)


class Preparer:
    """`prepare` and `cancel` return at once; the same revision again is the same preparation."""

    def __init__(
        self, images: Images, shelf: Shelf, clock: Clock, outcomes: Outcomes, group: asyncio.TaskGroup
    ) -> None:
        self._images = images
        self._shelf = shelf
        self._clock = clock
        self._outcomes = outcomes
        self._group = group
        self._jobs: dict[str, _Job] = {}

    def prepare(self, revision: Revision, template: Template) -> None:
        """Prepare this revision, and no other of its deployment any more."""
        job = self._jobs.get(revision.deployment_id)
        if job is not None and job.revision.number == revision.number:
            return
        self.cancel(revision.deployment_id)
        begun = Preparation(revision.number, "preparing", self._clock.now())
        job = _Job(revision, template, begun, revision.image)
        self._jobs[revision.deployment_id] = job
        job.task = self._group.create_task(self._run(job))

    def hurry(self, revision: Revision) -> None:
        """What stood in the way may be gone: the next try is at once, or after the one under way."""
        job = self._jobs.get(revision.deployment_id)
        if job is not None and job.revision.number == revision.number:
            job.hurry.set()

    def cancel(self, deployment_id: str) -> None:
        """Nothing is to be prepared for this deployment; what is shared with others goes on for them."""
        job = self._jobs.pop(deployment_id, None)
        if job is not None and job.task is not None:
            job.task.cancel()

    def preparation(self, deployment_id: str) -> Preparation | None:
        job = self._jobs.get(deployment_id)
        return job.preparation if job is not None else None

    def obstacle(self, deployment_id: str) -> Obstacle | None:
        """What stood in the way last."""
        job = self._jobs.get(deployment_id)
        return job.obstacle if job is not None else None

    async def _run(self, job: _Job) -> None:
        deployment_id = job.revision.deployment_id
        while True:
            job.hurry.clear()
            pause = await self._try(job)
            if pause is None:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await job.hurry.wait()
        if self._jobs.get(deployment_id) is job:
            del self._jobs[deployment_id]
            self._outcomes.prepared(deployment_id, job.revision.number, job.image)

    async def _try(self, job: _Job) -> float | None:
        """How long until the next try; None: all is here."""
        try:
            if job.template.image is not None and not job.fetched:
                await self._fetch(job)
            for source in job.template.sources:
                await self._fill(job, source)
        except (EngineUnavailableError, StoreError) as error:
            self._troubled(job, error)
            return _RETRY
        except PreparationError as error:
            return self._failed(job, error)
        except HaleError as error:
            return self._failed(job, _failure(job, error.message, error.hint))
        except Exception:
            doing = job.preparation.doing
            log.exception("deployment %s: cannot go on %s", job.revision.deployment_id, doing)
            return self._failed(job, _failure(job, f"cannot go on {doing}: see the log of hale"))
        return None

    def _troubled(self, job: _Job, error: HaleError) -> None:
        """Told once; not a failure of the image or the volume."""
        job.preparation = replace(job.preparation, error=error.one_line, retry_at=self._clock.now() + _RETRY)
        job.obstacle = Obstacle(error.one_line, brief=error.message)
        if error.message != job.trouble:
            job.trouble = error.message
            self._outcomes.troubled(job.revision.deployment_id, error.message)

    def _failed(self, job: _Job, error: PreparationError) -> float:
        """Told once for each reason, without its hint; the pause before the next try grows."""
        job.trouble = ""
        failures = job.preparation.failures + 1
        pause = _BACKOFF.delay(failures + 1)
        why = error.one_line
        job.preparation = replace(
            job.preparation, failures=failures, error=why, retry_at=self._clock.now() + pause
        )
        job.obstacle = Obstacle(why, error.fatal, story.brief(error))
        if why not in job.told:
            job.told.add(why)
            self._tell(job, story.Said(error.event, error.message, Level.WARNING))
        self._outcomes.nudge(job.revision.deployment_id)
        return pause

    async def _fetch(self, job: _Job) -> None:
        name = job.template.image or ""
        job.on(f"pulling {name}")
        hearing = self._hearing(job, "image.pulling")
        fetched = await self._images.fetch(job.template, job.revision.image, hearing.tell)
        job.fetched = True
        if fetched.reference != name:  # what stands for itself says no more than the name
            job.image = fetched.reference
        if fetched.stale is not None:
            self._tell(job, story.stale(name, fetched.stale))
        elif hearing.heard:
            self._tell(job, story.pulled(name, fetched.reference, hearing.last, hearing.took()))

    async def _fill(self, job: _Job, source: Source) -> None:
        job.on(f"filling volume {source.name}")
        hearing = self._hearing(job, "volume.filling")
        await self._shelf.fill(job.revision.deployment_id, source, hearing.tell)
        if hearing.heard:
            self._tell(job, story.filled(source.name, hearing.last, hearing.took()))

    def _hearing(self, job: _Job, kind: str) -> "_Hearing":
        def begun() -> None:
            doing = job.preparation.doing
            if doing not in job.told:
                job.told.add(doing)
                self._tell(job, story.Said(kind, doing))

        return _Hearing(job, self._clock, begun)

    def _tell(self, job: _Job, said: story.Said) -> None:
        revision = job.revision
        self._outcomes.tell(said.event(self._clock.now(), revision.deployment_id, revision.number))


def _failure(job: _Job, why: str, hint: str = "") -> PreparationError:
    """Of what was under way: the image comes first."""
    kind = "volume.failed" if job.fetched or job.template.image is None else "image.failed"
    return PreparationError(why, event=kind, fatal=False, hint=hint)


class _Hearing:
    """Hears how far something is; `begun` is called when there turns out to be anything to do."""

    def __init__(self, job: _Job, clock: Clock, begun: Callable[[], None]) -> None:
        self._job = job
        self._clock = clock
        self._begun = begun
        self._since = clock.now()
        self.heard = False
        self.last = Progress()

    def tell(self, progress: Progress) -> None:
        if not self.heard:
            self.heard = True
            self._begun()
        self.last = progress
        self._job.preparation = replace(self._job.preparation, progress=progress)

    def took(self) -> float:
        return self._clock.now() - self._since
