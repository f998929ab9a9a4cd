"""Follows a deployment: what is known of it after every event and each second, and how it came out."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from hale.cli import words
from hale.cli.answers import Deployment, Health
from hale.cli.client import Client, Place, UnreachableError
from hale.cli.now import elapsed
from hale.cli.remote import Answer, Remote
from hale.core.event import Event
from hale.errors import HaleError

KEPT = 50
"""Events that a snapshot carries."""

PATIENCE = 10.0
"""Seconds that a stream of events may be gone before we give up on the daemon."""

_TICK = 1.0
_GATHER = 0.1
"""Seconds from the first event of a burst to the one look at its end."""


class Wakes:
    """What ends a wait: an event, or None for a signal. Safe to put to from a signal handler."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Event | None] = SimpleQueue()

    def put(self, event: Event | None) -> None:
        self._queue.put(event)

    def wait(self, seconds: float) -> tuple[Event, ...]:
        """Events of the next `seconds`; a signal, or the end of a burst, comes earlier."""
        events: list[Event] = []
        until = elapsed() + seconds
        while (left := until - elapsed()) > 0:
            try:
                event = self._queue.get(timeout=left)
            except Empty:
                break
            if event is None:
                break
            if not events:
                until = min(until, elapsed() + _GATHER)
            events.append(event)
        return tuple(events)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at a deployment; `fresh` are the events since the look before, `events` the last ones."""

    deployment: Deployment
    health: Health
    events: tuple[Event, ...] = ()
    fresh: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an applied spec came out, in one sentence."""

    ok: bool
    message: str
    hint: str = ""


def snapshots(hale: Remote, deployment_id: str, after: int, wakes: Wakes) -> Iterator[Snapshot]:
    """Looks without end; `after` is the last event that is not of interest."""
    Thread(target=_feed, args=(hale.client.place, deployment_id, after, wakes), daemon=True).start()
    kept: deque[Event] = deque(maxlen=KEPT)
    fresh: tuple[Event, ...] = ()
    while True:
        kept.extend(fresh)
        deployment = hale.deployment(deployment_id)
        yield Snapshot(deployment, hale.health(deployment_id).value, tuple(kept), fresh)
        fresh = wakes.wait(_TICK)


def outcome(snapshot: Snapshot, spec_id: str) -> Outcome | None:
    """Whether what was applied has come to its end, good or bad; None while it is under way."""
    deployment = snapshot.deployment
    name = words.line(deployment.name)
    if deployment.spec_id != spec_id:
        return Outcome(ok=False, message=f"cannot finish {name}: another revision was applied meanwhile")
    if deployment.healthy_at is not None:
        return Outcome(ok=True, message=f"{name} is healthy: {words.url(deployment.endpoint)}")
    if deployment.error:
        why, hint = words.hinted(words.line(deployment.error))
        return Outcome(ok=False, message=f"cannot deploy {name}: {why}", hint=hint)
    if deployment.applied_at is not None and not (deployment.enabled and deployment.wanted):
        return Outcome(ok=True, message=f"{name} is applied; it is {words.status(deployment, 0)}")
    return None


def events(hale: Remote, deployment_id: str, after: int) -> Iterator[Answer[Event]]:
    """Events as they come, over restarts of the daemon too."""
    lost_at: float | None = None
    pause = Wakes()
    while True:
        try:
            for event in hale.stream(deployment_id, after):
                lost_at = None
                if event.value.id > after:
                    after = event.value.id
                    yield event
        except UnreachableError:
            lost_at = elapsed() if lost_at is None else lost_at
            if elapsed() - lost_at > PATIENCE:
                raise
        pause.wait(0.5)


def _feed(place: Place, deployment_id: str, after: int, wakes: Wakes) -> None:
    """Runs in a thread of its own; that the daemon is gone is noticed, and said, by the one that looks."""
    try:
        for event in events(Remote(Client(place)), deployment_id, after):
            wakes.put(event.value)
    except HaleError:
        return
