"""Values of the core as the API shows them."""

from collections.abc import Mapping, Sequence
from hashlib import md5

from hale.api import models, registry_kinds, specs
from hale.clock import iso
from hale.core.deployment import Deployment, Project, Revision
from hale.core.event import Cause, Event
from hale.core.image import Preparation, Registry
from hale.core.outlook import Next
from hale.core.probe import Health, ProbeResult
from hale.core.replica import Phase, Replica
from hale.core.secret import Secret
from hale.ports import LogLine, Observation

OWNER = "hale"
"""User and team: hale has one of each."""
GIT_HEADERS = ("x-git-host", "x-git-actor", "x-git-sha", "x-git-ref", "x-git-owner", "x-git-repo")

_STATES: Mapping[Phase, str] = {
    # Gradient's clients know `healthy` and `pending`, and take `errored` for bad.
    Phase.PENDING: "pending",
    Phase.STARTING: "pending",
    Phase.UNREADY: "pending",
    Phase.READY: "healthy",
    Phase.DRAINING: "stopping",
    Phase.STOPPING: "stopping",
    Phase.BACKOFF: "errored",
    Phase.STOPPED: "stopped",
}


def when(at: float | None) -> str | None:
    return None if at is None else iso(at)


# --- Gradient's -----------------------------------------------------------------------------------


def project(value: Project, *, deleted_at: float | None = None) -> models.Project:
    return models.Project(
        id=value.id,
        name=value.name,
        dt_created=iso(value.created_at),
        dt_deleted=when(deleted_at),
        repo_node_id=None,  # pages show what is set
        repo_name=None,
        repo_url=None,
    )


def deployment(value: Deployment, newest: Revision, endpoint: str) -> models.Deployment:
    marks = _marks(newest)
    return models.Deployment(
        id=value.id,
        name=value.name,
        project_id=value.project_id,
        team_id=OWNER,
        endpoint=endpoint,
        dt_created=iso(value.created_at),
        latest_spec_hash=md5(newest.document.encode(), usedforsecurity=False).hexdigest(),
        basic_auth_key=(marks["data"] or {}).get("basicAuthKey"),
        latest_spec=models.SpecMarks(**marks),
    )


def historic_spec(revision: Revision) -> models.HistoricSpec:
    return models.HistoricSpec(**_marks(revision), workflow_run=None)


def _marks(revision: Revision) -> models.JsonObject:
    return {
        "id": revision.id,
        "deployment_id": revision.deployment_id,
        "user_id": OWNER,
        "data": specs.shown_to_gradient(revision),
        "external_applied": when(revision.applied_at),
        "dt_healthy": when(revision.healthy_at),
        "error": revision.error,
        "metadata": {"gitHeaders": dict(revision.metadata)} if revision.metadata else None,
    }


def git_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The git headers of a request: Gradient's schema wants all of them or none."""
    found = {name: headers[name] for name in GIT_HEADERS if name in headers}
    complete = len(found) == len(GIT_HEADERS) and found["x-git-host"] in ("github", "gitlab")
    return found if complete else {}


def state(replica: Replica) -> str:
    """The Gradient state, as the replica's events tell it."""
    if replica.phase is Phase.UNREADY and replica.first_ready_at is not None:
        return "unhealthy"
    return _STATES[replica.phase]


def instance(replica: Replica, events: Sequence[Event]) -> models.Instance:
    """`events` are the replica's, oldest first."""
    told = [event for event in events if event.state]
    return models.Instance(
        id=replica.id,
        instance_id=replica.id,
        state=state(replica),
        state_message=told[-1].message if told else None,
        dt_created=iso(replica.created_at),
        dt_finished=when(replica.finished_at),
        history=[
            models.InstanceState(state=event.state, message=event.message, timestamp=iso(event.at))
            for event in told
        ],
    )


def secret(value: Secret) -> models.Secret:
    return models.Secret(**_marks_of_secret(value))


def used_secret(value: Secret, *, attached: bool) -> models.UsedSecret:
    return models.UsedSecret(**_marks_of_secret(value), has_deployment_attached=attached)


def _marks_of_secret(value: Secret) -> dict[str, str]:
    return {
        "name": value.name,
        "dt_created": iso(value.created_at),
        "dt_modified": iso(value.modified_at),
    }


def registry(value: Registry) -> models.Registry:
    return models.Registry(
        id=value.id,
        name=value.name,
        url=value.url,
        namespace=value.namespace,
        username=value.username,
        dt_created=iso(value.created_at),
        dt_modified=iso(value.modified_at),
        kind=value.kind or registry_kinds.OTHER,  # type: ignore[arg-type]  # pydantic checks it
    )


def log_item(line: LogLine, job_id: str) -> models.LogItem:
    return models.LogItem(
        id=f"{line.replica_id}.{line.attempt}.{line.position}",
        job_id=job_id,
        message=line.text,
        uuid=None,
        dt_created=iso(line.at),
        instance_id=line.replica_id,
    )


# --- hale's own -----------------------------------------------------------------------------------


def event(value: Event) -> models.Event:
    return models.Event(
        id=value.id,
        at=iso(value.at),
        type=value.type,
        level=value.level.value,
        message=value.message,
        deployment_id=value.deployment_id,
        revision=value.revision,
        replica_id=value.replica_id,
        attempt=value.attempt,
        cause=_links(value.cause),
    )


def revision(value: Revision, *, current: bool) -> models.Revision:
    spec = specs.spec_of(value.document)
    return models.Revision(
        revision=value.number,
        id=value.id,
        created_at=iso(value.created_at),
        applied_at=when(value.applied_at),
        healthy_at=when(value.healthy_at),
        error=value.error,
        replicas=spec.resources.replicas,
        enabled=spec.enabled is not False,
        image=spec.image or None,
        image_digest=value.image,
        command=list(spec.command or ()),
        current=current,
    )


def preparation(value: Preparation | None) -> models.Preparation | None:
    if value is None:
        return None
    return models.Preparation(
        revision=value.revision,
        doing=value.doing,
        since=iso(value.since),
        progress=models.Progress(
            done=value.progress.done,
            total=value.progress.total,
            bytes_done=value.progress.bytes_done,
            bytes_total=value.progress.bytes_total,
        ),
        failures=value.failures,
        error=value.error or None,
        retry_at=when(value.retry_at),
    )


def replica(seen: Observation) -> models.Replica:
    value = seen.replica
    return models.Replica(
        id=value.id,
        revision=value.revision,
        phase=value.phase.value,
        ready=value.phase is Phase.READY,
        since=iso(value.since),
        attempt=value.attempt,
        restarts=value.restarts,
        address=seen.address,
        pid=seen.pid,
        container=seen.container,
        last_restart=_last_restart(value),
        next=_next(seen.next),
        checks={kind.value: _check(health, seen.thresholds[kind]) for kind, health in seen.checks.items()},
    )


def _next(value: Next | None) -> models.Next | None:
    return None if value is None else models.Next(action=value.action, at=when(value.at), reason=value.reason)


def _last_restart(value: Replica) -> list[models.Link] | None:
    """Why it was, or is about to be, started again; why it leaves for good is no restart."""
    return None if value.retired or not value.cause else _links(value.cause)


def _check(health: Health, threshold: int) -> models.Check:
    return models.Check(
        verdict=health.verdict.value,
        streak=health.streak,
        failure_threshold=threshold,
        results=[_result(each) for each in health.results],
    )


def _result(value: ProbeResult) -> models.Result:
    return models.Result(
        at=iso(value.at),
        ok=value.ok,
        status=value.status,
        latency_ms=round(value.latency * 1000, 3),
        detail=value.detail,
        eager=value.eager,
        exited=value.exited,
    )


def _links(cause: Cause) -> list[models.Link]:
    return [models.Link(kind=link.kind, at=iso(link.at), message=link.message) for link in cause]
