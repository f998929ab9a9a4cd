"""Runs and instances, as Gradient's clients count them."""

from dataclasses import replace
from typing import Any

from hale.core.event import Event
from hale.core.probe import ProbeKind
from hale.core.replica import Phase, Replica
from hale.ports import Observation
from tests.api.conftest import EPOCH, Api
from tests.api.openapi import assert_answers


async def put(
    api: Api, deployment_id: str, name: str, revision: int, phase: Phase, **changes: Any
) -> Replica:
    replica = replace(
        Replica(name, deployment_id, revision, "key", EPOCH + len(name), phase, EPOCH), **changes
    )
    await api.store.put_replicas([(replica, {})])
    return replica


async def runs(api: Api, deployment_id: str, **query: object) -> Any:
    found = await api.get(f"/v1/deployments/{deployment_id}/runs", **query)
    assert_answers("GET /deployments/{id}/runs", found)
    return found


async def test_a_run_counts_wanted_ready_and_available_replicas(api: Api) -> None:
    deployment_id = await api.apply(replicas=4)
    for name, phase in (
        ("a", Phase.READY),
        ("bb", Phase.UNREADY),
        ("ccc", Phase.STARTING),
        ("dddd", Phase.READY),
    ):
        await put(api, deployment_id, name, 1, phase)
    (run,) = await runs(api, deployment_id)
    assert (run["replicas"], run["readyReplicas"], run["availableReplicas"]) == (4, 2, 1)
    assert [each["state"] for each in run["instances"]] == ["healthy", "pending", "pending", "healthy"]


async def test_a_new_deployment_has_a_run_before_it_has_replicas(api: Api) -> None:
    (run,) = await runs(api, await api.apply())
    assert (run["replicas"], run["readyReplicas"], run["instances"]) == (2, 0, [])


async def test_a_rollout_has_a_run_for_each_spec_newest_first(api: Api) -> None:
    deployment_id = await api.apply(command=["old"])
    await api.apply(command=["new"])
    await put(api, deployment_id, "old", 1, Phase.READY)
    await put(api, deployment_id, "new", 2, Phase.STARTING)
    new, old = await runs(api, deployment_id)
    newest, oldest = await api.store.revisions(deployment_id)
    assert [new["id"], old["id"]] == [newest.id, oldest.id]
    assert [(run["replicas"], run["readyReplicas"]) for run in (new, old)] == [(2, 0), (0, 1)]
    assert len(await runs(api, deployment_id, limit=1)) == 1


async def test_replicas_that_a_scaling_kept_are_in_the_current_run(api: Api) -> None:
    deployment_id = await api.apply(replicas=1)
    await put(api, deployment_id, "kept", 1, Phase.READY)
    await api.patch(f"/v1/deployments/{deployment_id}", {"replicas": 2})
    (run,) = await runs(api, deployment_id)
    assert (run["replicas"], run["readyReplicas"]) == (2, 1)


async def test_a_disabled_deployment_has_no_runs_once_its_replicas_are_gone(api: Api) -> None:
    deployment_id = await api.apply()
    leaving = await put(api, deployment_id, "r1", 1, Phase.DRAINING, retired=True)
    await api.patch(f"/v1/deployments/{deployment_id}", {"enabled": False})
    (run,) = await runs(api, deployment_id)
    assert (run["replicas"], run["readyReplicas"]) == (0, 0)
    await api.store.put_replicas([(replace(leaving, phase=Phase.STOPPED), {})])
    assert await runs(api, deployment_id) == []


async def test_what_the_platform_sees_wins_over_what_is_stored(api: Api) -> None:
    deployment_id = await api.apply(replicas=1)
    stored = await put(api, deployment_id, "r1", 1, Phase.STARTING)
    ready = replace(stored, phase=Phase.READY)
    api.platform.observations[deployment_id] = [
        Observation(ready, None, None, {}, {ProbeKind.STARTUP: 3}, None)
    ]
    (run,) = await runs(api, deployment_id)
    assert run["readyReplicas"] == 1


async def test_an_instance_has_the_history_of_its_states(api: Api) -> None:
    deployment_id = await api.apply(replicas=1)
    await put(api, deployment_id, "r1", 1, Phase.STOPPED, finished_at=EPOCH + 9.5, retired=True)
    await put(api, deployment_id, "r2", 1, Phase.BACKOFF)
    await api.store.append([
        Event(EPOCH + n, "replica.x", message, deployment_id, 1, "r1", 1, state=state)
        for n, (state, message) in enumerate(
            [("pending", "started"), ("", "checked"), ("healthy", "is ready"), ("stopped", "ended")]
        )
    ])  # fmt: skip
    (run,) = await runs(api, deployment_id)
    stopped, failing = run["instances"]
    assert stopped == {
        "id": "r1",
        "instanceId": "r1",
        "state": "stopped",
        "stateMessage": "ended",
        "dtCreated": "2023-11-14T22:13:22.000Z",
        "dtFinished": "2023-11-14T22:13:29.500Z",
        "history": [
            {"state": "pending", "message": "started", "timestamp": "2023-11-14T22:13:20.000Z"},
            {"state": "healthy", "message": "is ready", "timestamp": "2023-11-14T22:13:22.000Z"},
            {"state": "stopped", "message": "ended", "timestamp": "2023-11-14T22:13:23.000Z"},
        ],
    }
    assert (failing["state"], failing["stateMessage"], failing["history"]) == ("errored", None, [])


async def test_a_replica_that_was_ready_and_is_not_is_unhealthy(api: Api) -> None:
    deployment_id = await api.apply(replicas=1)
    await put(api, deployment_id, "r1", 1, Phase.UNREADY, first_ready_at=EPOCH)
    (run,) = await runs(api, deployment_id)
    assert run["instances"][0]["state"] == "unhealthy"


async def test_the_limit_of_runs_is_a_number_from_one(api: Api) -> None:
    deployment_id = await api.apply()
    for limit in (0, -1, "x"):
        refusal = await api.refused("GET", f"/v1/deployments/{deployment_id}/runs", limit=limit)
        assert refusal.code == "BAD_REQUEST"
