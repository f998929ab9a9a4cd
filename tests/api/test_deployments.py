"""Deployments over Gradient's API: what its clients send, and what they read."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest

from hale.core.deployment import Deployment
from hale.core.event import Level
from tests.api.conftest import Api, spec
from tests.api.openapi import assert_answers

T = TypeVar("T")

GIT = {
    "x-git-host": "github",
    "x-git-actor": "ada",
    "x-git-sha": "0a1b2c",
    "x-git-ref": "refs/heads/main",
    "x-git-owner": "ada",
    "x-git-repo": "engine",
}


async def numbers(api: Api, deployment_id: str) -> list[int]:
    return [revision.number for revision in await api.store.revisions(deployment_id)]


async def test_an_upsert_creates_then_updates_by_project_and_name(api: Api) -> None:
    created = await api.post("/v1/deployments", {"projectId": "default", "config": spec()})
    assert_answers("POST /deployments", created)
    assert await api.apply(replicas=3) == created["deploymentId"]
    assert await numbers(api, created["deploymentId"]) == [2, 1]


async def test_a_null_deployment_id_is_as_none(api: Api) -> None:
    body = {"projectId": "default", "deploymentId": None, "config": spec()}
    assert (await api.post("/v1/deployments", body))["deploymentId"] == await api.apply()


def slow(api: Api) -> None:
    """Let every look into the store take its time, as a disk does."""

    def slowed(look: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def later(*given: object, **named: object) -> T:
            found = await look(*given, **named)
            await asyncio.sleep(0.01)
            return found

        return later

    for name in ("projects", "deployment", "deployments", "revisions"):
        setattr(api.store, name, slowed(getattr(api.store, name)))


async def test_upserts_of_one_name_at_the_same_time_make_one_deployment(api: Api) -> None:
    slow(api)
    ids = await asyncio.gather(*(api.apply(replicas=count) for count in range(1, 11)))
    assert len(set(ids)) == 1
    assert sorted(await numbers(api, ids[0])) == list(range(1, 11))


async def test_an_upsert_right_behind_a_delete_makes_a_new_deployment(
    api: Api,
) -> None:
    old = await api.apply()
    slow(api)
    _, new = await asyncio.gather(api.delete(f"/v1/deployments/{old}"), api.apply(replicas=9))
    deployment = await api.store.deployment(old)
    assert deployment is not None
    assert deployment.deleted_at is not None
    assert await numbers(api, new) == [1]


async def test_changes_at_the_same_time_all_count(api: Api) -> None:
    deployment_id = await api.apply()
    slow(api)
    path = f"/v1/deployments/{deployment_id}"
    await asyncio.gather(
        *(api.post(f"{path}/restart") for _ in range(5)),
        *(api.patch(path, {"replicas": n}) for n in range(5)),
    )
    deployment = await api.store.deployment(deployment_id)
    assert deployment is not None
    assert (deployment.restarts, await numbers(api, deployment_id)) == (5, [6, 5, 4, 3, 2, 1])


async def test_an_upsert_with_an_id_may_rename_and_keeps_the_slug(api: Api) -> None:
    deployment_id = await api.apply("old")
    body = {"projectId": "default", "deploymentId": deployment_id, "config": spec("new")}
    await api.post("/v1/deployments", body)
    shown = await api.get(f"/v1/deployments/{deployment_id}")
    assert (shown["name"], shown["endpoint"]) == ("new", "old.localhost:8080")


async def test_a_rename_to_a_name_that_is_taken_is_a_conflict_and_changes_nothing(api: Api) -> None:
    deployment_id, _ = await api.apply("one"), await api.apply("two")
    body = {"projectId": "default", "deploymentId": deployment_id, "config": spec("two")}
    refusal = await api.refused("POST", "/v1/deployments", body)
    assert (refusal.status, refusal.code) == (409, "CONFLICT")
    assert await numbers(api, deployment_id) == [1]


@pytest.mark.parametrize(
    "changes",
    [{"projectId": "nowhere"}, {"deploymentId": "nobody"}, {"deploymentId": "\N{ROCKET}/../.."}],
)
async def test_an_upsert_to_what_does_not_exist_is_not_found(api: Api, changes: dict[str, str]) -> None:
    refusal = await api.refused(
        "POST", "/v1/deployments", {"projectId": "default", "config": spec()} | changes
    )
    assert (refusal.status, refusal.code) == (404, "NOT_FOUND")
    assert await api.store.deployments() == []


async def test_an_id_of_another_project_is_not_found(api: Api) -> None:
    deployment_id = await api.apply()
    other = await api.post("/v1/projects", {"name": "other"})
    body = {"projectId": other["id"], "deploymentId": deployment_id, "config": spec()}
    assert (await api.refused("POST", "/v1/deployments", body)).code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "projectId"),
        ({"projectId": "default"}, "config"),
        ({"projectId": 1, "config": {}}, "projectId"),
        ({"projectId": "default", "config": []}, "config"),
        ({"projectId": "default", "config": {}, "force": True}, "force"),
        ([], "body"),
        (None, "body"),
        ("text", "body"),
    ],
)
async def test_a_malformed_upsert_names_what_is_wrong(api: Api, body: object, named: str) -> None:
    refusal = await api.refused("POST", "/v1/deployments", body)
    assert (refusal.status, refusal.code) == (400, "BAD_REQUEST")
    assert any(issue.startswith(f"{named}: ") for issue in refusal.issues)


async def test_every_problem_of_a_spec_is_an_issue_of_its_own(api: Api) -> None:
    config = spec(healthChecks={"liveness": {"path": "/", "timeoutSecond": 1}}, comand=["x"], replicas=-1)
    refusal = await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": config})
    assert refusal.code == "BAD_REQUEST"
    assert len(refusal.issues) == 3
    for field in ("healthChecks.liveness.timeoutSecond", "comand", "resources.replicas"):
        assert any(field in issue for issue in refusal.issues)
    assert await api.store.deployments() == []


async def test_what_the_platform_cannot_do_is_refused_and_nothing_is_kept(api: Api) -> None:
    api.platform.refusal = "image: no container engine"
    refusal = await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": spec()})
    assert refusal.issues == ("image: no container engine",)
    assert (await api.store.deployments(), await api.store.events(), api.platform.woken) == ([], [], [])


async def test_what_hale_cannot_do_yet_is_refused_by_its_field(api: Api) -> None:
    config = spec(integrations=[{"type": "model", "id": "m", "name": "m"}])
    refusal = await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": config})
    assert refusal.code == "BAD_REQUEST"
    assert "integrations" in refusal.issues[0]


async def test_an_apply_is_told_and_wakes_the_platform_afterwards(api: Api) -> None:
    deployment_id = await api.apply()
    await api.apply(replicas=1)
    events = await api.store.events(deployment_id)
    told = [(event.type, event.revision, event.message) for event in events if event.level is Level.NORMAL]
    assert told == [
        ("deployment.created", 1, "created with 2 replicas"),
        ("revision.created", 2, "revision 2 was applied: 1 replica"),
    ]
    assert api.platform.woken == [deployment_id, deployment_id]


async def test_notes_on_a_spec_are_warnings_and_are_not_repeated(api: Api) -> None:
    twice = [{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]
    deployment_id = await api.apply(env=twice)
    await api.apply(env=twice, region="ny2")
    await api.apply(env=twice, region="ny2", replicas=7)
    events = [event for event in await api.store.events(deployment_id) if event.type == "revision.note"]
    assert [(event.revision, event.level) for event in events] == [(1, Level.WARNING), (2, Level.WARNING)]
    assert "more than once" in events[0].message
    assert "region" in events[1].message


async def test_a_deployment_is_what_the_schema_says(api: Api) -> None:
    deployment_id = await api.apply(healthChecks={"readiness": {"path": "/readiness/", "periodSeconds": 10}})
    shown = await api.get(f"/v1/deployments/{deployment_id}")
    assert_answers("GET /deployments/{id}", shown)
    assert shown["projectId"] == "default"
    assert shown["dtCreated"] == "2023-11-14T22:13:20.000Z"
    latest = shown["latestSpec"]
    assert (latest["deploymentId"], latest["externalApplied"], latest["dtHealthy"], latest["error"]) == (
        deployment_id, None, None, None,
    )  # fmt: skip
    assert latest["data"]["image"] == ""
    assert "hale" not in latest["data"]


async def test_the_marks_of_the_newest_revision_are_shown(api: Api) -> None:
    deployment_id = await api.apply()
    (revision,) = await api.store.revisions(deployment_id)
    await api.store.put_revision(
        replace(revision, applied_at=1_700_000_001.5, healthy_at=1_700_000_002.25, error="no")
    )
    latest = (await api.get(f"/v1/deployments/{deployment_id}"))["latestSpec"]
    assert latest["externalApplied"] == "2023-11-14T22:13:21.500Z"
    assert latest["dtHealthy"] == "2023-11-14T22:13:22.250Z"
    assert latest["error"] == "no"


async def test_git_headers_are_kept_when_all_are_there(api: Api) -> None:
    body = {"projectId": "default", "config": spec()}
    answer = await api.client.post("/v1/deployments", json=body, headers=GIT)
    shown = await api.get(f"/v1/deployments/{answer.json()['deploymentId']}")
    assert_answers("GET /deployments/{id}", shown)
    assert shown["latestSpec"]["metadata"] == {"gitHeaders": GIT}


@pytest.mark.parametrize("change", [{"x-git-host": "elsewhere"}, {"x-git-sha": None}])
async def test_git_headers_that_the_schema_does_not_know_are_left_out(
    api: Api, change: dict[str, str | None]
) -> None:
    headers = {name: value for name, value in (GIT | change).items() if value is not None}
    body = {"projectId": "default", "config": spec()}
    answer = await api.client.post("/v1/deployments", json=body, headers=headers)
    shown = await api.get(f"/v1/deployments/{answer.json()['deploymentId']}")
    assert shown["latestSpec"]["metadata"] is None


async def test_a_literal_password_is_shown_nowhere(api: Api) -> None:
    deployment_id = await api.apply(basicAuthKey="swordfish")
    for path in ("", "/spec", "/history", "/revisions"):
        answer = await api.client.get(f"/v1/deployments/{deployment_id}{path}")
        assert "swordfish" not in answer.text
    shown = await api.get(f"/v1/deployments/{deployment_id}")
    assert (shown["basicAuthKey"], shown["latestSpec"]["data"]["basicAuthKey"]) == ("***", "***")


async def test_a_spec_sent_back_as_it_was_shown_keeps_its_password(api: Api) -> None:
    deployment_id = await api.apply(basicAuthKey="swordfish")
    shown = await api.get(f"/v1/deployments/{deployment_id}/spec")
    await api.post("/v1/deployments", {"projectId": "default", "config": shown | {"enabled": False}})
    newest, _ = await api.store.revisions(deployment_id)
    assert '"swordfish"' in newest.document


async def test_a_password_in_a_url_is_shown_nowhere_and_kept_when_it_is_sent_back(api: Api) -> None:
    model = {"type": "git-lfs", "name": "model", "url": "https://ada:swordfish@git.example.com/model"}
    other = {"type": "git-lfs", "name": "other", "url": "https://git.example.com/other"}
    deployment_id = await api.apply(integrations=[model, other])
    for path in ("", "/spec", "/history", "/revisions", "/events"):
        answer = await api.client.get(f"/v1/deployments/{deployment_id}{path}")
        assert "swordfish" not in answer.text
    shown = await api.get(f"/v1/deployments/{deployment_id}/spec")
    assert shown["integrations"][0]["url"] == "https://***@git.example.com/model"
    await api.post("/v1/deployments", {"projectId": "default", "config": shown | {"enabled": False}})
    newest, _ = await api.store.revisions(deployment_id)
    assert json.loads(newest.document)["integrations"] == [model, other]
    moved = [
        each | {"url": each["url"].replace("example.com", "example.org")} for each in shown["integrations"]
    ]
    body = {"projectId": "default", "config": shown | {"integrations": moved}}
    assert (await api.refused("POST", "/v1/deployments", body)).issues[0].startswith("integrations[0].url")


@pytest.mark.parametrize("integrations", [5, "x", [5], [{"url": 5}], [{"name": ["x"], "url": "a://***@b"}]])
async def test_integrations_that_are_none_are_refused_for_what_they_are(
    api: Api, integrations: object
) -> None:
    await api.apply()
    body = {"projectId": "default", "config": spec(integrations=integrations)}
    assert (await api.refused("POST", "/v1/deployments", body)).code == "BAD_REQUEST"


async def test_a_hidden_password_that_is_none_is_refused(api: Api) -> None:
    body = {"projectId": "default", "config": spec(basicAuthKey="***")}
    assert "basicAuthKey" in (await api.refused("POST", "/v1/deployments", body)).message


async def test_gradients_part_can_be_sent_back_as_it_was_shown(api: Api) -> None:
    deployment_id = await api.apply()
    data = (await api.get(f"/v1/deployments/{deployment_id}"))["latestSpec"]["data"]
    await api.post("/v1/deployments", {"projectId": "default", "config": data})
    assert await numbers(api, deployment_id) == [2, 1]


async def test_the_same_name_in_two_projects_are_two_and_the_later_slug_has_a_hash(api: Api) -> None:
    other = await api.post("/v1/projects", {"name": "other"})
    first, second = await api.apply(), await api.apply(project=other["id"])
    one, two = await api.store.deployment(first), await api.store.deployment(second)
    assert one is not None
    assert two is not None
    assert one.slug == "web"
    assert two.slug.startswith("web-")


async def test_a_deleted_deployment_is_gone_for_those_who_ask_and_the_platform_is_woken(api: Api) -> None:
    deployment_id = await api.apply()
    answer = await api.delete(f"/v1/deployments/{deployment_id}")
    assert_answers("DELETE /deployments/{id}", answer)
    assert answer == {"id": deployment_id}
    for path in ("", "/runs", "/history", "/logs", "/health", "/spec", "/events", "/revisions"):
        assert (await api.refused("GET", f"/v1/deployments/{deployment_id}{path}")).code == "NOT_FOUND"
    assert (await api.refused("DELETE", f"/v1/deployments/{deployment_id}")).code == "NOT_FOUND"
    assert (await api.get("/v1/deployments"))["items"] == []
    marked = await api.store.deployment(deployment_id)
    assert marked is not None
    assert marked.deleted_at is not None
    assert api.platform.woken == [deployment_id, deployment_id]


async def test_a_name_is_free_again_as_soon_as_its_deployment_is_being_deleted(api: Api) -> None:
    old = await api.apply()
    await api.delete(f"/v1/deployments/{old}")
    new = await api.apply()
    assert new != old
    assert await numbers(api, new) == [1]


async def test_history_has_every_spec_newest_first(api: Api) -> None:
    deployment_id = await api.apply()
    await api.apply(replicas=3)
    history = await api.get(f"/v1/deployments/{deployment_id}/history")
    assert_answers("GET /deployments/{id}/history", history)
    assert [item["data"]["resources"]["replicas"] for item in history["items"]] == [3, 2]
    assert len({item["id"] for item in history["items"]}) == 2


@pytest.mark.parametrize("metric", ["cpu", "requests_total"])
async def test_metrics_are_refused_by_name(api: Api, metric: str) -> None:
    deployment_id = await api.apply()
    refusal = await api.refused(
        "GET", f"/v1/deployments/{deployment_id}/metrics", metric=metric, timeframe="day"
    )
    assert refusal.code == "BAD_REQUEST"
    assert metric in refusal.message


@pytest.mark.parametrize("query", [{}, {"metric": "love"}, {"metric": "cpu", "timeframe": "year"}])
async def test_metrics_with_a_wrong_query_name_it(api: Api, query: dict[str, str]) -> None:
    deployment_id = await api.apply()
    refusal = await api.refused("GET", f"/v1/deployments/{deployment_id}/metrics", **query)
    assert len(refusal.issues) == 1


# --- pages ----------------------------------------------------------------------------------------


async def names(api: Api, **query: object) -> list[str]:
    return [item["name"] for item in (await api.get("/v1/deployments", **query))["items"]]


async def three(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.apply(name)
        await asyncio.sleep(1)


async def test_deployments_are_listed_newest_first_unless_asked_otherwise(api: Api) -> None:
    await three(api)
    assert await names(api) == ["c", "b", "a"]
    assert await names(api, order="asc", orderBy="dtCreated") == ["a", "b", "c"]
    assert await names(api, name="b") == ["b"]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_follow_each_other_to_the_last(api: Api, order: str) -> None:
    await three(api)
    found, query = [], {"limit": "2", "order": order}
    while True:
        page = await api.get("/v1/deployments", **query)
        assert_answers("GET /deployments", page)
        found += [item["name"] for item in page["items"]]
        if not page["hasMore"]:
            break
        query["after"] = page["nextPage"]
    assert found == sorted("abc", reverse=order == "desc")
    assert "nextPage" not in page


async def test_pspace_finds_nextpage_in_the_last_page_too(api: Api) -> None:
    await api.apply("web")
    answer = await api.client.get("/v1/deployments", headers={"x-client": "paperspace-cli"})
    assert (answer.json()["hasMore"], answer.json()["nextPage"]) == (False, None)


async def test_a_page_goes_on_when_the_deployment_at_its_end_is_deleted(api: Api) -> None:
    await three(api)
    page = await api.get("/v1/deployments", limit=1)
    await api.store.delete_deployment(page["items"][0]["id"])
    assert await names(api, limit=1, after=page["nextPage"]) == ["b"]


async def test_a_deployment_that_goes_away_while_it_is_listed_is_left_out(api: Api) -> None:
    await three(api)
    oldest, *_ = await api.store.deployments()
    listed = api.store.deployments

    async def then_gone() -> Sequence[Deployment]:
        found = await listed()
        await api.store.delete_deployment(oldest.id)
        return found

    api.store.deployments = then_gone  # type: ignore[method-assign]
    assert await names(api) == ["c", "b"]


async def test_a_full_last_page_has_no_more(api: Api) -> None:
    await three(api)
    page = await api.get("/v1/deployments", limit=3)
    assert (len(page["items"]), page["hasMore"]) == (3, False)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0}, {"limit": 121}, {"limit": "many"}, {"limit": 1.5}, {"order": "up"}, {"orderBy": "name"},
        {"after": "x"}, {"after": "x_y"},
    ],
)  # fmt: skip
async def test_a_wrong_page_is_refused_by_its_parameter(api: Api, query: dict[str, object]) -> None:
    refusal = await api.refused("GET", "/v1/deployments", **query)
    assert (refusal.status, refusal.code) == (400, "BAD_REQUEST")
    assert next(iter(query)) in refusal.message


async def test_unknown_query_parameters_are_tolerated(api: Api) -> None:
    await api.apply()
    assert len((await api.get("/v1/deployments", json="true", page=3))["items"]) == 1
