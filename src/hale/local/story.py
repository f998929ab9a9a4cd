"""Events beside those of the core: what checks said, where replicas run, whether anybody serves, what was
fetched. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hale.core.event import Event, Level
from hale.core.image import Progress
from hale.core.probe import TcpAction
from hale.core.replica import Phase, Replica
from hale.core.words import duration, outcome, size
from hale.errors import HaleError, PreparationError
from hale.local.managed import Managed
from hale.local.prober import Finding
from hale.ports import Instance


def warning(replica: Replica, kind: str, message: str, now: float) -> Event:
    """Something about a replica that an operator should know."""
    return Event(
        now,
        kind,
        message,
        replica.deployment_id,
        replica.revision,
        replica.id,
        replica.attempt,
        Level.WARNING,
    )


def detailed(event: Event, instance: Instance | None) -> Event:
    """With where it runs, which only the engine knows."""
    if event.type != "replica.started" or instance is None:
        return event
    pid = f", pid {instance.pid}" if instance.pid else ""
    return replace(event, message=f"{event.message}{pid}{_place(instance)}")


def _place(instance: Instance) -> str:
    """Its address, if that is its own; else the ports that it was given in place of the declared ones."""
    if instance.pid is None and all(declared == actual for declared, actual in instance.ports.items()):
        return f", at {instance.address}"
    ports = ", ".join(f"{declared} is {actual}" for declared, actual in instance.ports.items())
    return f", port {ports}" if ports else ""


def of_finding(replica: Replica, finding: Finding, now: float) -> list[Event]:
    """A success with a catch that is not the last one's, and each failure that counts."""
    probe, result, after = finding.probe, finding.result, finding.after
    previous = finding.before.last
    if result.warning and (previous is None or previous.warning != result.warning):
        return [warning(replica, "check.warning", f"{probe.kind} check: {result.warning}", now)]
    counts = not result.ok and not result.eager and after.streak <= probe.failure_threshold
    if not counts or isinstance(probe.action, TcpAction):
        return []
    text = f"{probe.kind} check failed {after.streak} of {probe.failure_threshold}: {outcome(result)}"
    return [warning(replica, "check.failed", text, now)]


def of_service(managed: Managed, now: float) -> list[Event]:
    """Whether requests are served, when that is another than was told last."""
    serving = any(replica.phase is Phase.READY for replica in managed.replicas.values())
    if serving == managed.serving:
        return []
    managed.serving = serving
    deployment_id = managed.deployment.id
    if serving:
        return [Event(now, "deployment.serving", "requests are served", deployment_id)]
    text = "no ready replica: requests are answered with 503"
    level = Level.WARNING if managed.desired.replicas else Level.NORMAL
    return [Event(now, "deployment.not_serving", text, deployment_id, level=level)]


# --- what revisions need --------------------------------------------------------------------

_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Said:
    """An event to be, without whom it is about."""

    type: str
    message: str
    level: Level = Level.NORMAL

    def event(self, now: float, deployment_id: str, revision: int) -> Event:
        return Event(now, self.type, self.message, deployment_id, revision, level=self.level)

    def of(self, replica: Replica, now: float) -> Event:
        event = self.event(now, replica.deployment_id, replica.revision)
        return replace(event, replica_id=replica.id, attempt=replica.attempt)


def pulled(name: str, reference: str, got: Progress, took: float) -> Said:
    return Said("image.pulled", f"{name} is {_short(reference)} ({_amount(got, 'layer', took)})")


def stale(name: str, error: HaleError) -> Said:
    return Said("image.stale", f"{error.message}; using the {name} that is here", Level.WARNING)


def changed(name: str, reference: str) -> Said:
    return Said("image.changed", f"{name} is {_short(reference)} by now: started from that")


def gone(reference: str) -> Said:
    return Said("image.gone", f"{_short(reference)} is not here any more: pulling it again", Level.WARNING)


_BRIEFLY: Mapping[str, str] = {
    "image.not_found": "no such image",
    "image.tag_not_found": "no such tag",
    "image.denied": "access to its image is denied",
    "image.unreachable": "its registry can't be reached",
    "image.untrusted": "its registry is not trusted",
    "image.disk_full": "no space is left for its image",
    "image.wrong_architecture": "its image is not for this machine",
    "image.failed": "its image can't be pulled",
    "volume.not_found": "what its volume is filled from is not there",
    "volume.denied": "access to what its volume is filled from is denied",
    "volume.unreachable": "what its volume is filled from can't be reached",
    "volume.disk_full": "no space is left for its volume",
    "volume.failed": "its volume can't be filled",
}


def brief(error: PreparationError) -> str:
    """A few words for a revision whose failure was told in full, as an event of its own."""
    return _BRIEFLY.get(error.event, error.message)


def filled(name: str, got: Progress, took: float) -> Said:
    return Said("volume.filled", f"volume {name} is filled ({_amount(got, 'file', took)})")


def _short(reference: str) -> str:
    return _DIGEST.sub(r"\1…", reference)


def _amount(got: Progress, part: str, took: float) -> str:
    """`5 layers, 38 MB, 4.2 s`, as far as it is known."""
    known = [f"{got.total} {part}{'s' * (got.total != 1)}"] if got.total else []
    if got.bytes_total or got.bytes_done:
        known.append(size(got.bytes_total or got.bytes_done))
    return ", ".join([*known, duration(took)])
