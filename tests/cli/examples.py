"""Documents as the API sends them; ages are relative to NOW."""

from typing import Any

from hale.clock import iso

NOW = 1_800_000_000.0

WEB = "11111111-1111-4111-8111-111111111111"
R1 = "7f3a91c2-0000-4000-8000-000000000001"
R2 = "9b21c0d4-0000-4000-8000-000000000002"
R3 = "c4d5e6f7-0000-4000-8000-000000000003"


def result(ok: bool, age: float, status: int | None, ms: float, detail: str = "", eager: bool = False) -> Any:
    return {
        "at": iso(NOW - age),
        "ok": ok,
        "status": status,
        "latencyMs": ms,
        "detail": detail,
        "eager": eager,
    }


def check(verdict: str, streak: int, threshold: int, *results: Any) -> Any:
    return {"verdict": verdict, "streak": streak, "failureThreshold": threshold, "results": list(results)}


def replica(replica_id: str, phase: str, since: float, **more: Any) -> Any:
    return {
        "id": replica_id,
        "revision": 3,
        "phase": phase,
        "ready": phase == "ready",
        "since": iso(NOW - since),
        "attempt": 1,
        "restarts": 0,
        "address": "127.0.0.1:41233",
        "pid": 4121,
        "lastRestart": None,
        "next": None,
        "checks": {},
    } | more


def passing(age: float = 3) -> Any:
    return check("passing", 9, 3, result(True, age, 200, 4.2, "Readiness check succeeded."))


def link(kind: str, age: float, message: str) -> Any:
    return {"kind": kind, "at": iso(NOW - age), "message": message}


def ready_replica() -> Any:
    return replica(
        R1,
        "ready",
        720,
        restarts=1,
        attempt=2,
        checks={
            "startup": check(
                "passing", 1, 6, result(True, 725, 200, 3.0, "Startup check succeeded.", eager=True)
            ),
            "readiness": passing(),
            "liveness": check("passing", 70, 3, result(True, 4, 0, 57.2) | {"exited": True}),
        },
        lastRestart=[
            link("check", 760, 'liveness check failed 3 of 3: 503 in 4 ms: "Liveness check failed."'),
            link("stop", 759, "asked to end"),
            link("exit", 758, "exited with code 0 after 2 h"),
            link("back-off", 758, "restart 1 at once"),
            link("start", 757, "attempt 2 started"),
        ],
    )


def starting_replica() -> Any:
    return replica(
        R2,
        "starting",
        20,
        address="10.89.0.5:8000",
        pid=None,
        container="hale-web-9b21c0d4-1",
        checks={
            "startup": check(
                "unknown",
                2,
                6,
                result(False, 1, 503, 4.0, "Startup check failed."),
                result(False, 9, None, 0.3, "refused"),
            ),
            "readiness": check("failing", 0, 3),
            "liveness": check("passing", 0, 3),
        },
        next={"action": "restart", "at": iso(NOW + 40), "reason": "2 of 6 startup failures"},
    )


def backoff_replica() -> Any:
    return replica(
        R3,
        "backoff",
        6,
        restarts=2,
        attempt=3,
        address=None,
        pid=None,
        checks={"startup": check("unknown", 0, 6), "readiness": check("failing", 0, 3)},
        next={"action": "restart", "at": iso(NOW + 14), "reason": "restart 3"},
        lastRestart=[
            link("exit", 6, "exited with code 1 after 2 s"),
            link("back-off", 6, "restart 3 in 20 s"),
        ],
    )


def preparation(doing: str = "pulling web:2", **more: Any) -> Any:
    """Twelve seconds under way."""
    return {
        "revision": 3,
        "doing": doing,
        "since": iso(NOW - 12),
        "progress": {"done": 3, "total": 5, "bytesDone": 41_000_000, "bytesTotal": 120_000_000},
        "failures": 0,
        "error": None,
        "retryAt": None,
    } | more


DENIED = (
    "cannot pull registry.example.org/team/web:2: access denied (hint: name the registry's connection in"
    " `containerRegistry`: `hale registry list`)"
)


def waiting(**more: Any) -> Any:
    """A pull that failed twice and is tried again in 14 seconds."""
    failed = {"failures": 2, "error": DENIED, "retryAt": iso(NOW + 14)}
    return preparation("pulling registry.example.org/team/web:2", **failed | more)


def registry(name: str = "corp", **more: Any) -> Any:
    return {
        "id": f"id-of-{name}",
        "name": name,
        "url": "registry.example.org:5000",
        "namespace": "team",
        "username": "puller",
        "kind": "other",
        "dtCreated": iso(NOW - 9000),
        "dtModified": iso(NOW - 600),
    } | more


def secret(name: str, *, used: bool = False, changed: float = 9000) -> Any:
    return {
        "name": name,
        "dtCreated": iso(NOW - 9000),
        "dtModified": iso(NOW - changed),
        "hasDeploymentAttached": used,
    }


def health(*replicas: Any, name: str = "web", revision: int = 3, **more: Any) -> Any:
    return {
        "deploymentId": WEB,
        "name": name,
        "revision": revision,
        "endpoint": "web.localhost:8080",
        "replicas": list(replicas),
    } | more


def deployment(**more: Any) -> Any:
    spec: dict[str, Any] = {
        "id": "s3",
        "deploymentId": WEB,
        "userId": "u",
        "data": {"name": "web", "enabled": True, "resources": {"replicas": 3}},
        "externalApplied": iso(NOW - 800),
        "dtHealthy": iso(NOW - 780),
        "error": None,
        "metadata": None,
    } | more.pop("spec", {})
    return {
        "id": WEB,
        "name": "web",
        "projectId": "p1",
        "teamId": "t",
        "endpoint": "web.localhost:8080",
        "dtCreated": iso(NOW - 9000),
        "latestSpecHash": None,
        "basicAuthKey": None,
        "latestSpec": spec,
    } | more


def event(
    event_id: int,
    age: float,
    message: str,
    replica_id: str | None = R1,
    level: str = "normal",
    cause: Any = (),
) -> Any:
    return {
        "id": event_id,
        "at": iso(NOW - age),
        "type": "replica.ready",
        "level": level,
        "message": message,
        "revision": 3,
        "replicaId": replica_id,
        "attempt": 1,
        "cause": list(cause),
    }
