"""What the API answers, as values: the one place that knows the names in its JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hale.core.event import Cause, Event, Level, Link
from hale.core.image import Preparation, Progress
from hale.core.probe import ProbeResult
from hale.core.secret import reference

JSON = Any  # what json.loads gives


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment and what has become of its newest spec."""

    id: str
    name: str
    project_id: str
    endpoint: str
    created_at: float | None
    spec_id: str = ""
    wanted: int = 1
    enabled: bool = True
    applied_at: float | None = None
    healthy_at: float | None = None
    error: str = ""
    registry: str = ""
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """One configured check of a replica; `results` are newest first."""

    kind: str
    verdict: str
    streak: int
    threshold: int
    results: tuple[ProbeResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Next:
    """What happens next to a replica."""

    action: str
    at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it is now."""

    id: str
    revision: int
    phase: str
    ready: bool
    since: float | None
    attempt: int
    restarts: int
    address: str = ""
    pid: int | None = None
    container: str = ""
    last_restart: Cause = ()
    next: Next | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)

    @property
    def leaving(self) -> bool:
        return self.phase in {"draining", "stopping", "stopped"}


@dataclass(frozen=True, slots=True)
class Health:
    """A deployment's replicas, and what its newest revision waits for before its first one."""

    deployment_id: str
    name: str
    revision: int
    endpoint: str
    replicas: tuple[Replica, ...] = ()
    preparation: Preparation | None = None

    @property
    def running(self) -> tuple[Replica, ...]:
        """Those with a process, and those that will get one again."""
        return tuple(replica for replica in self.replicas if replica.phase != "stopped")

    @property
    def ready(self) -> int:
        return sum(replica.ready for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class Revision:
    """One numbered version of a deployment's spec."""

    number: int
    id: str
    created_at: float | None
    healthy_at: float | None
    applied_at: float | None
    error: str
    replicas: int | None
    runs: str
    current: bool
    image: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """A container registry and who asks it; its password is never told."""

    id: str
    name: str
    url: str
    namespace: str
    username: str
    kind: str
    modified_at: float | None


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """That there is a secret of this name; its value is never told."""

    name: str
    created_at: float | None
    modified_at: float | None
    used: bool


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a replica wrote."""

    id: str
    at: float | None
    replica_id: str
    text: str


def instant(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def deployment(document: JSON) -> Deployment:
    spec = document.get("latestSpec") or {}
    config = spec.get("data") or {}
    replicas = (config.get("resources") or {}).get("replicas")
    enabled = config.get("enabled")
    return Deployment(
        id=document["id"],
        name=document["name"],
        project_id=document["projectId"],
        endpoint=document["endpoint"],
        created_at=instant(document.get("dtCreated")),
        spec_id=spec.get("id") or "",
        wanted=1 if replicas is None else int(replicas),
        enabled=enabled is not False,
        applied_at=instant(spec.get("externalApplied")),
        healthy_at=instant(spec.get("dtHealthy")),
        error=spec.get("error") or "",
        registry=config.get("containerRegistry") or "",
        secrets=frozenset(_references(config)),
    )


def _references(config: JSON) -> Iterator[str]:
    """Names of secrets in places that may refer to one."""
    places = [each.get("value") for each in config.get("env") or ()]
    places.append(config.get("basicAuthKey"))
    for each in config.get("integrations") or ():
        places += [each.get("accessKeyId"), each.get("secretAccessKey")]
    return (name for place in places if isinstance(place, str) and (name := reference(place)))


def health(document: JSON) -> Health:
    return Health(
        deployment_id=document["deploymentId"],
        name=document["name"],
        revision=document["revision"],
        endpoint=document["endpoint"],
        replicas=tuple(_replica(each) for each in document["replicas"]),
        preparation=_preparation(document.get("preparation")),
    )


def _preparation(document: JSON) -> Preparation | None:
    if document is None:
        return None
    known = document.get("progress") or {}
    return Preparation(
        revision=document["revision"],
        doing=document["doing"],
        since=instant(document["since"]) or 0.0,
        progress=Progress(
            known.get("done") or 0,
            known.get("total") or 0,
            known.get("bytesDone") or 0,
            known.get("bytesTotal") or 0,
        ),
        failures=document.get("failures") or 0,
        error=document.get("error") or "",
        retry_at=instant(document.get("retryAt")),
    )


def _replica(document: JSON) -> Replica:
    following = document.get("next")
    return Replica(
        id=document["id"],
        revision=document["revision"],
        phase=document["phase"],
        ready=document["ready"],
        since=instant(document.get("since")),
        attempt=document["attempt"],
        restarts=document["restarts"],
        address=document.get("address") or "",
        pid=document.get("pid"),
        container=document.get("container") or "",
        last_restart=_cause(document.get("lastRestart")),
        next=following
        and Next(following["action"], instant(following.get("at")), following.get("reason") or ""),
        checks={kind: _check(kind, each) for kind, each in document["checks"].items()},
    )


def _check(kind: str, document: JSON) -> Check:
    results = tuple(
        ProbeResult(
            at=instant(each["at"]) or 0.0,
            ok=each["ok"],
            latency=(each.get("latencyMs") or 0.0) / 1000,
            status=each.get("status"),
            detail=each.get("detail") or "",
            eager=each.get("eager", False),
            exited=each.get("exited", False),
        )
        for each in document["results"]
    )
    return Check(kind, document["verdict"], document["streak"], document["failureThreshold"], results)


def _cause(document: JSON) -> Cause:
    return tuple(Link(each["kind"], instant(each["at"]) or 0.0, each["message"]) for each in document or ())


def event(document: JSON) -> Event:
    return Event(
        id=int(document["id"]),
        at=instant(document["at"]) or 0.0,
        type=document["type"],
        level=Level(document["level"]),
        message=document["message"],
        revision=document.get("revision"),
        replica_id=document.get("replicaId"),
        attempt=document.get("attempt"),
        cause=_cause(document.get("cause")),
    )


def revision(document: JSON) -> Revision:
    return Revision(
        number=document["revision"],
        id=document["id"],
        created_at=instant(document.get("createdAt")),
        healthy_at=instant(document.get("healthyAt")),
        applied_at=instant(document.get("appliedAt")),
        error=document.get("error") or "",
        replicas=document.get("replicas"),
        runs=_runs(document),
        current=bool(document.get("current")),
        image=document.get("image") or "",
        digest=document.get("imageDigest") or "",
    )


def _runs(document: JSON) -> str:
    command = document.get("command") or ""
    text = " ".join(command) if isinstance(command, list) else str(command)
    return text or document.get("image") or ""


def registry(document: JSON) -> Registry:
    return Registry(
        id=document["id"],
        name=document["name"],
        url=document["url"],
        namespace=document.get("namespace") or "",
        username=document["username"],
        kind=document.get("kind") or "",
        modified_at=instant(document.get("dtModified")),
    )


def secret(document: JSON) -> SecretEntry:
    return SecretEntry(
        name=document["name"],
        created_at=instant(document.get("dtCreated")),
        modified_at=instant(document.get("dtModified")),
        used=bool(document.get("hasDeploymentAttached")),
    )


def log_line(document: JSON) -> LogLine:
    return LogLine(
        id=str(document["id"]),
        at=instant(document.get("dtCreated")),
        replica_id=document.get("instanceId") or "",
        text=document["message"],
    )
