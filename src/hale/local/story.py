"""Events beside those of the core: what checks said, where replicas run, whether anybody serves. Pure."""

from dataclasses import replace

from hale.core.event import Event, Level
from hale.core.probe import TcpAction
from hale.core.replica import Phase, Replica
from hale.core.words import outcome
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
    ports = ", ".join(f"{declared} is {actual}" for declared, actual in instance.ports.items())
    pid = f", pid {instance.pid}" if instance.pid else ""
    return replace(event, message=f"{event.message}{pid}" + (f", port {ports}" if ports else ""))


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
