"""Secrets of projects and of the team: kept, told apart, never shown."""

import asyncio
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.openapi import assert_answers

PROJECT, TEAM = "/v1/projects/default/secrets", "/v1/teams/hale/secrets"
OWNERS = pytest.mark.parametrize(
    ("path", "schema"), [(PROJECT, "/projects/{id}/secrets"), (TEAM, "/teams/{id}/secrets")]
)
VALUE = "v4lue-that-nobody-may-read"


async def put(api: Api, path: str, *names: str, value: str = VALUE) -> None:
    for name in names:
        await api.post(path, {"name": name, "value": value})


async def values(api: Api) -> dict[tuple[str | None, str], str]:
    return {(each.project_id, each.name): each.value for each in await api.store.secrets()}


def names(page: dict[str, Any]) -> list[str]:
    return [each["name"] for each in page["items"]]


@OWNERS
async def test_a_secret_is_made_shown_changed_and_forgotten(api: Api, path: str, schema: str) -> None:
    made = await api.post(path, {"name": "TOKEN", "value": VALUE})
    assert_answers(f"POST {schema}", made)
    assert made == {
        "name": "TOKEN",
        "dtCreated": "2023-11-14T22:13:20.000Z",
        "dtModified": "2023-11-14T22:13:20.000Z",
    }
    shown = await api.get(f"{path}/TOKEN")
    assert_answers(f"GET {schema}/{{name}}", shown)
    assert shown == made | {"hasDeploymentAttached": False}
    page = await api.get(path)
    assert_answers(f"GET {schema}", page)
    assert page == {"items": [shown], "hasMore": False}
    changed = await api.patch(f"{path}/TOKEN", {"value": "another"})
    assert_answers(f"PATCH {schema}/{{name}}", changed)
    assert changed["dtCreated"] == made["dtCreated"] < changed["dtModified"]
    assert set((await values(api)).values()) == {"another"}
    gone = await api.delete(f"{path}/TOKEN")
    assert_answers(f"DELETE {schema}/{{name}}", gone)
    assert gone == {"name": "TOKEN"}
    assert (await api.get(path), await values(api)) == ({"items": [], "hasMore": False}, {})


@OWNERS
async def test_no_answer_has_a_value(api: Api, path: str, schema: str) -> None:
    answers = [
        await api.client.post(path, json={"name": "A", "value": VALUE}),
        await api.client.post(path, json={"name": "A", "value": VALUE}),
        await api.client.post(path, json={"name": "no name", "value": VALUE}),
        await api.client.post(path, json={"name": "B", "value": [VALUE]}),
        await api.client.post(path, json={"name": "B", "value": VALUE * 1000}),
        await api.client.post(path, json={"name": "B", "value": f"{VALUE}\0"}),
        await api.client.post(path, content=f'{{"name": "B", "value": "{VALUE}'),
        await api.client.patch(f"{path}/A", json={"value": VALUE, "more": VALUE}),
        await api.client.patch(f"{path}/A", json={"value": VALUE}),
        await api.client.patch(f"{path}/B", json={"value": VALUE}),
        await api.client.get(f"{path}/A"),
        await api.client.get(path),
        await api.client.delete(f"{path}/A"),
    ]
    assert [answer.status_code for answer in answers] == [
        200, 409, 400, 400, 400, 400, 400, 400, 200, 404, 200, 200, 200,
    ]  # fmt: skip
    assert [answer.text for answer in answers if VALUE in answer.text] == []


@OWNERS
async def test_a_name_is_taken_once(api: Api, path: str, schema: str) -> None:
    await put(api, path, "TOKEN", value="first")
    refusal = await api.refused("POST", path, {"name": "TOKEN", "value": "second"})
    assert (refusal.code, "there is one of that name" in refusal.message) == ("CONFLICT", True)
    assert list((await values(api)).values()) == ["first"]


async def test_a_name_asked_for_twice_at_the_same_time_is_made_once(api: Api) -> None:
    bodies = [{"name": "TOKEN", "value": str(n)} for n in range(5)]
    answers = await asyncio.gather(*(api.client.post(PROJECT, json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    assert len(await values(api)) == 1


@pytest.mark.parametrize("name", ["", "1A", "_A", "A-B", "A B", "A\n", "Ä", "A" * 129])
async def test_a_name_that_no_secret_can_have_is_refused(api: Api, name: str) -> None:
    refusal = await api.refused("POST", PROJECT, {"name": name, "value": "v"})
    assert (refusal.code, refusal.issues) == (
        "BAD_REQUEST", ("name: must be a letter, then letters, digits and _, 128 at most",),
    )  # fmt: skip
    assert await values(api) == {}


@pytest.mark.parametrize("name", ["a", "Z9_", "A" * 128])
async def test_names_have_1_to_128_letters_digits_and_underscores(api: Api, name: str) -> None:
    await put(api, PROJECT, name)
    assert names(await api.get(PROJECT)) == [name]


async def test_a_value_has_1_to_8192_characters_of_any_kind(api: Api) -> None:
    for value in ("", "x" * 8193, "nul\0"):
        for method, path, body in (("POST", PROJECT, {"name": "A"}), ("PATCH", f"{PROJECT}/A", {})):
            refusal = await api.refused(method, path, body | {"value": value})
            assert refusal.code == "BAD_REQUEST"
            assert refusal.issues[0].startswith("value: must ")
    assert await values(api) == {}
    longest = "\N{ROCKET}" * 8191 + "\n"
    await put(api, PROJECT, "A", value=longest)
    assert await values(api) == {("default", "A"): longest}


@pytest.mark.parametrize(
    "body", [{}, {"name": "A"}, {"value": "v"}, {"name": "A", "value": 7}, {"name": "A", "value": None}]
)
async def test_a_secret_needs_a_name_and_a_text(api: Api, body: dict[str, Any]) -> None:
    assert (await api.refused("POST", PROJECT, body)).code == "BAD_REQUEST"


@OWNERS
async def test_a_secret_that_is_not_there_is_not_found(api: Api, path: str, schema: str) -> None:
    await put(api, TEAM if path == PROJECT else PROJECT, "TOKEN")  # of the other owner
    for method in ("GET", "PATCH", "DELETE"):
        body = {"value": "v"} if method == "PATCH" else None
        refusal = await api.refused(method, f"{path}/TOKEN", body)
        assert (refusal.code, "'TOKEN'" in refusal.message) == ("NOT_FOUND", True)


@pytest.mark.parametrize("path", ["/v1/projects/nowhere/secrets", "/v1/teams/nobody/secrets"])
async def test_an_owner_that_is_not_there_is_not_found(api: Api, path: str) -> None:
    body = {"name": "A", "value": "v"}
    for method, at in (("GET", path), ("POST", path), ("GET", f"{path}/A"), ("DELETE", f"{path}/A")):
        assert (await api.refused(method, at, body if method == "POST" else None)).code == "NOT_FOUND"
    assert await values(api) == {}


async def test_the_team_of_the_session_has_the_secrets(api: Api) -> None:
    session = await api.get("/v1/auth/session")
    for team in (session["team"]["id"], session["team"]["namespace"]):
        assert (await api.get(f"/v1/teams/{team}/secrets"))["items"] == []


async def test_the_same_name_in_two_projects_and_the_team_are_three_secrets(api: Api) -> None:
    other = (await api.post("/v1/projects", {"name": "other"}))["id"]
    for number, path in enumerate((PROJECT, TEAM, f"/v1/projects/{other}/secrets")):
        await put(api, path, "TOKEN", value=str(number))
    await api.patch(f"{TEAM}/TOKEN", {"value": "new"})
    await api.delete(f"{PROJECT}/TOKEN")
    assert await values(api) == {(None, "TOKEN"): "new", (other, "TOKEN"): "2"}


async def test_secrets_come_in_pages_newest_first(api: Api) -> None:
    for name in ("A_1", "B", "C_3", "D"):
        await put(api, PROJECT, name)
        await asyncio.sleep(1)
    first = await api.get(PROJECT, limit=3)
    assert_answers("GET /projects/{id}/secrets", first)
    second = await api.get(PROJECT, limit=3, after=first["nextPage"])
    assert (names(first), names(second), second["hasMore"]) == (["D", "C_3", "B"], ["A_1"], False)
    assert names(await api.get(PROJECT, order="asc")) == ["A_1", "B", "C_3", "D"]


async def test_a_deleted_project_takes_its_secrets(api: Api) -> None:
    other = (await api.post("/v1/projects", {"name": "other"}))["id"]
    await put(api, f"/v1/projects/{other}/secrets", "A")
    await put(api, TEAM, "A")
    await api.delete(f"/v1/projects/{other}")
    assert list(await values(api)) == [(None, "A")]


async def attached(api: Api, path: str, name: str = "TOKEN") -> bool:
    return bool((await api.get(f"{path}/{name}"))["hasDeploymentAttached"])


ENV = [{"name": "TOKEN", "value": "secret:TOKEN"}]


async def test_a_project_that_is_deleted_meanwhile_gets_no_secret(api: Api) -> None:
    project = (await api.post("/v1/projects", {"name": "other"}))["id"]
    context = api.app.state.context
    async with context.changing:
        body = {"name": "A", "value": "v"}
        asked = asyncio.ensure_future(api.refused("POST", f"/v1/projects/{project}/secrets", body))
        await asyncio.sleep(1)
        await api.store.delete_project(project)
    assert (await asked).code == "NOT_FOUND"
    assert await api.store.secrets() == []


async def test_a_secret_is_attached_where_it_was_resolved_the_projects_before_the_teams(api: Api) -> None:
    await put(api, TEAM, "TOKEN")
    await api.apply(env=ENV)
    assert await attached(api, TEAM)
    await put(api, PROJECT, "TOKEN")
    assert (await attached(api, PROJECT), await attached(api, TEAM)) == (False, True)
    await api.apply(env=ENV)
    assert (await attached(api, PROJECT), await attached(api, TEAM)) == (True, False)
    (item,) = (await api.get(PROJECT))["items"]
    assert item["hasDeploymentAttached"] is True


async def test_the_newest_revision_of_a_deployment_that_is_not_deleted_counts(api: Api) -> None:
    await put(api, PROJECT, "TOKEN")
    deployment_id = await api.apply(env=ENV)
    await api.apply()
    assert not await attached(api, PROJECT)
    await api.apply(env=ENV)
    assert await attached(api, PROJECT)
    await api.delete(f"/v1/deployments/{deployment_id}")
    assert not await attached(api, PROJECT)
