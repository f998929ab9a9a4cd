"""hale's own routes: health, spec, revisions, and the changes that Gradient has no call for."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hale
from hale.core.event import Link
from hale.core.image import Preparation, Progress
from hale.core.outlook import Next
from hale.core.probe import Health, ProbeKind, ProbeResult, Verdict
from hale.core.replica import Phase, Replica
from hale.ports import Observation
from tests.api.conftest import EPOCH, Api


def replica(**changes: Any) -> Replica:
    ready = Replica("r1", "d1", 1, "key", EPOCH, Phase.READY, EPOCH + 5, ready_at=EPOCH + 5)
    return replace(ready, **changes)


def observation(seen: Replica, **changes: Any) -> Observation:
    plain = Observation(seen, "127.0.0.1:4711", 4712, {}, {}, None)
    return replace(plain, **changes)


async def seen(api: Api, *observations: Observation) -> Any:
    deployment_id = await api.apply()
    api.platform.observations[deployment_id] = list(observations)
    return await api.get(f"/v1/deployments/{deployment_id}/health")


async def test_health_has_everything_about_a_replica_and_nothing_else(api: Api) -> None:
    result = ProbeResult(EPOCH + 6.25, ok=False, latency=0.0042, status=503, detail="no S3", eager=True)
    health = await seen(
        api,
        observation(
            replica(attempt=3, restarts=2, cause=(Link("exit", EPOCH + 1, "exited with code 1"),)),
            checks={ProbeKind.READINESS: Health(Verdict.PASSING, 4, ok=True, results=(result,))},
            thresholds={ProbeKind.READINESS: 6},
            next=Next("unroute", EPOCH + 7, "1 of 6 readiness failures"),
        ),
    )
    (deployment,) = await api.store.deployments()
    assert health == {
        "deploymentId": deployment.id,
        "name": "web",
        "revision": 1,
        "endpoint": "web.localhost:8080",
        "preparation": None,
        "replicas": [
            {
                "id": "r1",
                "revision": 1,
                "phase": "ready",
                "ready": True,
                "since": "2023-11-14T22:13:25.000Z",
                "attempt": 3,
                "restarts": 2,
                "address": "127.0.0.1:4711",
                "pid": 4712,
                "container": None,
                "lastRestart": [
                    {"kind": "exit", "at": "2023-11-14T22:13:21.000Z", "message": "exited with code 1"}
                ],
                "next": {
                    "action": "unroute",
                    "at": "2023-11-14T22:13:27.000Z",
                    "reason": "1 of 6 readiness failures",
                },
                "checks": {
                    "readiness": {
                        "verdict": "passing",
                        "streak": 4,
                        "failureThreshold": 6,
                        "results": [
                            {
                                "at": "2023-11-14T22:13:26.250Z",
                                "ok": False,
                                "status": 503,
                                "latencyMs": 4.2,
                                "detail": "no S3",
                                "eager": True,
                                "exited": False,
                            }
                        ],
                    }
                },
            }
        ],
    }


async def test_health_tells_what_a_revision_waits_for(api: Api) -> None:
    deployment_id = await api.apply(image="app:1")
    api.platform.preparations[deployment_id] = Preparation(
        1, "pulling app:1", EPOCH + 1, Progress(2, 5, 1000, 4096), 3, "cannot pull app:1: no", EPOCH + 41
    )
    assert (await api.get(f"/v1/deployments/{deployment_id}/health"))["preparation"] == {
        "revision": 1,
        "doing": "pulling app:1",
        "since": "2023-11-14T22:13:21.000Z",
        "progress": {"done": 2, "total": 5, "bytesDone": 1000, "bytesTotal": 4096},
        "failures": 3,
        "error": "cannot pull app:1: no",
        "retryAt": "2023-11-14T22:14:01.000Z",
    }
    api.platform.preparations[deployment_id] = Preparation(1, "pulling app:1", EPOCH)
    under_way = (await api.get(f"/v1/deployments/{deployment_id}/health"))["preparation"]
    assert (under_way["error"], under_way["retryAt"], under_way["failures"]) == (None, None, 0)


async def test_what_is_not_known_of_a_replica_is_null(api: Api) -> None:
    starting = replica(phase=Phase.STARTING, ready_at=None)
    (shown,) = (await seen(api, observation(starting, address=None, pid=None)))["replicas"]
    assert (shown["ready"], shown["address"], shown["pid"], shown["lastRestart"], shown["next"]) == (
        False, None, None, None, None,
    )  # fmt: skip
    assert shown["checks"] == {}


async def test_why_a_replica_leaves_for_good_is_no_restart(api: Api) -> None:
    leaving = replica(phase=Phase.DRAINING, retired=True, cause=(Link("retire", EPOCH, "replaced"),))
    (shown,) = (await seen(api, observation(leaving)))["replicas"]
    assert (shown["phase"], shown["lastRestart"]) == ("draining", None)


async def test_a_deployment_without_replicas_has_an_empty_list(api: Api) -> None:
    assert (await seen(api))["replicas"] == []


async def test_the_whole_spec_has_hales_own_settings(api: Api) -> None:
    deployment_id = await api.apply(hale={"drainSeconds": 5})
    whole = await api.get(f"/v1/deployments/{deployment_id}/spec")
    assert whole["hale"] == {"drainSeconds": 5}
    assert whole["command"] == ["serve"]


async def test_revisions_tell_what_each_was_and_which_is_current(api: Api) -> None:
    deployment_id = await api.apply(image="app:1")
    await api.apply(replicas=0, command=None, image="app:2", enabled=False)
    newest, oldest = await api.store.revisions(deployment_id)
    pulled = "docker.io/library/app@sha256:1"
    await api.store.put_revision(replace(oldest, applied_at=EPOCH + 1, error="no port", image=pulled))
    page = await api.get(f"/v1/deployments/{deployment_id}/revisions")
    assert page == {
        "items": [
            {
                "revision": 2,
                "id": newest.id,
                "createdAt": "2023-11-14T22:13:20.000Z",
                "appliedAt": None,
                "healthyAt": None,
                "error": None,
                "replicas": 0,
                "enabled": False,
                "image": "app:2",
                "imageDigest": None,
                "command": [],
                "current": True,
            },
            {
                "revision": 1,
                "id": oldest.id,
                "createdAt": "2023-11-14T22:13:20.000Z",
                "appliedAt": "2023-11-14T22:13:21.000Z",
                "healthyAt": None,
                "error": "no port",
                "replicas": 2,
                "enabled": True,
                "image": "app:1",
                "imageDigest": pulled,
                "command": ["serve"],
                "current": False,
            },
        ],
        "hasMore": False,
    }


async def test_revisions_come_in_pages_by_their_number(api: Api) -> None:
    deployment_id = await api.apply()
    for count in range(11):
        await api.apply(replicas=count)
    path = f"/v1/deployments/{deployment_id}/revisions"
    first = await api.get(path, limit=10, order="asc")
    rest = await api.get(path, limit=10, order="asc", after=first["nextPage"])
    numbers = [item["revision"] for item in first["items"] + rest["items"]]
    assert numbers == list(range(1, 13))


# --- changes --------------------------------------------------------------------------------------


async def documents(api: Api, deployment_id: str) -> list[str]:
    return [revision.document for revision in await api.store.revisions(deployment_id)]


@pytest.mark.parametrize(
    ("change", "replicas", "enabled"),
    [
        ({"replicas": 5}, 5, True),
        ({"replicas": 0}, 0, True),
        ({"enabled": False}, 2, False),
        ({"enabled": False, "replicas": 1}, 1, False),
    ],
)
async def test_a_patch_is_a_new_revision_with_the_rest_as_it_was(
    api: Api, change: dict[str, object], replicas: int, enabled: bool
) -> None:
    deployment_id = await api.apply(hale={"drainSeconds": 5}, basicAuthKey="swordfish")
    changed = await api.patch(f"/v1/deployments/{deployment_id}", change)
    newest, oldest = await api.store.revisions(deployment_id)
    assert changed == {"deploymentId": deployment_id, "revision": 2, "id": newest.id}
    before = oldest.document.replace('"replicas":2', f'"replicas":{replicas}')
    assert newest.document == before.replace('"enabled":true', f'"enabled":{str(enabled).lower()}')


@pytest.mark.parametrize(
    "change",
    [{}, {"replicas": None}, {"replicas": -1}, {"replicas": 10_001}, {"replicas": "2"}, {"replicas": 1.5},
     {"replicas": True}, {"enabled": 1}, {"name": "x"}, {"replicas": 10**30}],
)  # fmt: skip
async def test_a_patch_of_something_else_is_refused_and_changes_nothing(
    api: Api, change: dict[str, object]
) -> None:
    deployment_id = await api.apply()
    refusal = await api.refused("PATCH", f"/v1/deployments/{deployment_id}", change)
    assert (refusal.status, refusal.code) == (400, "BAD_REQUEST")
    assert len(await documents(api, deployment_id)) == 1


async def test_a_rollback_is_a_new_revision_with_the_spec_of_the_one_before(api: Api) -> None:
    deployment_id = await api.apply(command=["one"])
    await api.apply(command=["two"])
    changed = await api.post(f"/v1/deployments/{deployment_id}/rollback")
    newest, two, one = await documents(api, deployment_id)
    assert newest == one != two
    current = (await api.store.revisions(deployment_id))[0]
    assert changed == {"deploymentId": deployment_id, "revision": 3, "id": current.id, "like": 1}
    told = [event.message for event in await api.store.events(deployment_id, newest_first=True)]
    assert told[0] == "revision 3 was applied, back to the spec of revision 1: 2 replicas"


@pytest.mark.parametrize("what", [{"applied_at": None}, {"error": "revision 2 is not healthy after 10 min"}])
async def test_a_rollback_goes_past_what_failed_or_was_never_begun_with(
    api: Api, what: dict[str, object]
) -> None:
    deployment_id = await api.apply(command=["one"])
    (one,) = await api.store.revisions(deployment_id)
    await api.store.put_revision(replace(one, applied_at=1.0))
    await api.apply(command=["two"])
    two = (await api.store.revisions(deployment_id))[0]
    await api.store.put_revision(replace(two, **{"applied_at": 2.0, **what}))  # type: ignore[arg-type]
    await api.patch(f"/v1/deployments/{deployment_id}", {"replicas": 5})  # stuck as well
    await api.post(f"/v1/deployments/{deployment_id}/rollback")
    assert (await documents(api, deployment_id))[0] == one.document


@pytest.mark.parametrize("by", ["number", "text", "id"])
async def test_a_rollback_may_name_the_revision(api: Api, by: str) -> None:
    deployment_id = await api.apply(command=["one"])
    (first,) = await api.store.revisions(deployment_id)
    for command in ("two", "three"):
        await api.apply(command=[command])
    wanted = {"number": 1, "text": "1", "id": first.id}[by]
    await api.post(f"/v1/deployments/{deployment_id}/rollback", {"revision": wanted})
    assert (await documents(api, deployment_id))[0] == first.document


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"revision": null}'])
async def test_a_rollback_without_a_revision_needs_no_body(api: Api, body: bytes) -> None:
    deployment_id = await api.apply()
    await api.apply(replicas=9)
    answer = await api.client.post(f"/v1/deployments/{deployment_id}/rollback", content=body)
    assert answer.json()["revision"] == 3


@pytest.mark.parametrize(
    ("wanted", "code"),
    [(2, "BAD_REQUEST"), (3, "NOT_FOUND"), (0, "NOT_FOUND"), ("nobody", "NOT_FOUND"), (True, "BAD_REQUEST")],
)
async def test_a_rollback_to_nowhere_is_refused(api: Api, wanted: object, code: str) -> None:
    deployment_id = await api.apply()
    await api.apply(replicas=9)
    refusal = await api.refused("POST", f"/v1/deployments/{deployment_id}/rollback", {"revision": wanted})
    assert refusal.code == code
    assert wanted is True or "(hint: `hale history web` shows its revisions)" in refusal.message
    assert len(await documents(api, deployment_id)) == 2


async def test_a_first_revision_has_nothing_to_go_back_to(api: Api) -> None:
    deployment_id = await api.apply()
    refusal = await api.refused("POST", f"/v1/deployments/{deployment_id}/rollback", {})
    assert refusal.message == (
        "cannot roll web back: revision 1 is its only one (hint: apply a spec that is right)"
    )


async def test_a_rollback_to_what_can_not_be_done_here_is_refused(api: Api) -> None:
    deployment_id = await api.apply()
    await api.apply(replicas=9)
    api.platform.refusal = "image: no container engine"
    assert (await api.refused("POST", f"/v1/deployments/{deployment_id}/rollback", {})).code == "BAD_REQUEST"
    assert len(await documents(api, deployment_id)) == 2


async def test_a_change_is_made_though_what_runs_could_not_be_applied_here_now(api: Api) -> None:
    deployment_id = await api.apply()
    api.platform.refusal = "image: cannot reach Podman"
    for change in ({"enabled": False}, {"enabled": True}, {"replicas": 1}):
        await api.patch(f"/v1/deployments/{deployment_id}", change)
    assert len(await documents(api, deployment_id)) == 4


async def test_a_restart_counts_keeps_the_revision_and_wakes(api: Api) -> None:
    deployment_id = await api.apply()
    for _ in range(2):
        answer = await api.post(f"/v1/deployments/{deployment_id}/restart")
    deployment = await api.store.deployment(deployment_id)
    assert deployment is not None
    assert (deployment.restarts, answer["revision"]) == (2, 1)
    assert api.platform.woken == [deployment_id] * 3


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", ""), ("POST", "/restart"), ("POST", "/rollback"), ("GET", "/health"), ("GET", "/events")],
)
async def test_what_does_not_exist_is_not_found(api: Api, method: str, path: str) -> None:
    body = {"replicas": 1} if method == "PATCH" else None
    refusal = await api.refused(method, f"/v1/deployments/nobody{path}", body)
    assert refusal.message == "cannot find deployment 'nobody': there is none"


async def test_the_server_tells_what_it_is(api: Api) -> None:
    assert await api.get("/v1/server") == {
        "version": hale.__version__,
        "pid": os.getpid(),
        "data": str(Path.home() / ".local" / "share" / "hale"),
        "gateway": "127.0.0.1:8080",
        "domain": "localhost",
        "engine": "auto",
    }


async def test_down_is_accepted_and_passed_on(api: Api) -> None:
    answer = await api.client.post("/v1/down")
    assert (answer.status_code, api.downs) == (202, ["down"])
