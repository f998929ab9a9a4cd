"""Projects, and what Gradient's clients ask beside deployments."""

from tests.api.conftest import Api
from tests.api.openapi import assert_answers


async def test_the_default_project_is_always_there(api: Api) -> None:
    page = await api.get("/v1/projects")
    assert_answers("GET /projects", page)
    assert [(project["id"], project["name"]) for project in page["items"]] == [("default", "default")]
    assert_answers("GET /projects/{id}", await api.get("/v1/projects/default"))


async def test_a_project_is_made_renamed_and_forgotten(api: Api) -> None:
    made = await api.post("/v1/projects", {"name": "old"})
    assert_answers("POST /projects", made)
    renamed = await api.put(f"/v1/projects/{made['id']}", {"name": "new"})
    assert_answers("PUT /projects/{id}", renamed)
    assert renamed == made | {"name": "new"}
    gone = await api.delete(f"/v1/projects/{made['id']}")
    assert_answers("DELETE /projects/{id}", gone)
    assert gone["dtDeleted"] is not None
    for method in ("GET", "DELETE"):
        assert (await api.refused(method, f"/v1/projects/{made['id']}")).code == "NOT_FOUND"


async def test_a_project_that_holds_deployments_is_not_deleted(api: Api) -> None:
    made = await api.post("/v1/projects", {"name": "full"})
    deployment_id = await api.apply(project=made["id"])
    refusal = await api.refused("DELETE", f"/v1/projects/{made['id']}")
    assert (refusal.code, "web" in refusal.message) == ("CONFLICT", True)
    await api.delete(f"/v1/deployments/{deployment_id}")
    await api.delete(f"/v1/projects/{made['id']}")


async def test_the_default_project_is_not_deleted(api: Api) -> None:
    assert (await api.refused("DELETE", "/v1/projects/default")).code == "CONFLICT"


async def test_the_default_project_keeps_its_name(api: Api) -> None:
    refusal = await api.refused("PUT", "/v1/projects/default", {"name": "other"})
    assert (refusal.code, "cannot rename project default" in refusal.message) == ("CONFLICT", True)
    assert (await api.put("/v1/projects/default", {"name": "default"}))["name"] == "default"


async def test_names_of_projects_are_1_to_128_printable_characters(api: Api) -> None:
    for name in ("", "x" * 129, "a\nb", "   ", 7, None):
        assert (await api.refused("POST", "/v1/projects", {"name": name})).code == "BAD_REQUEST"
    assert (await api.post("/v1/projects", {"name": "\N{ROCKET}" * 128}))["name"] == "\N{ROCKET}" * 128


async def test_deployments_of_a_project_can_be_found_by_name(api: Api) -> None:
    other = await api.post("/v1/projects", {"name": "other"})
    await api.apply("web")
    await api.apply("db")
    await api.apply("web", project=other["id"])
    page = await api.get("/v1/projects/default/deployments", name="web")
    assert_answers("GET /projects/{id}/deployments", page)
    assert [(each["name"], each["projectId"]) for each in page["items"]] == [("web", "default")]
    assert (await api.refused("GET", "/v1/projects/nowhere/deployments")).code == "NOT_FOUND"


async def test_a_session_is_what_the_login_of_clients_wants(api: Api) -> None:
    session = await api.get("/v1/auth/session")
    assert_answers("GET /auth/session", session)
    assert session["team"]["namespace"] == "hale"


async def test_nobody_is_billed_and_this_machine_is_available(api: Api) -> None:
    assert await api.get("/v1/billing/account-standing") == {
        "isInGoodStanding": True,
        "hasPaymentMethod": True,
        "isAdminLocked": False,
        "messages": [],
    }
    query = {"machineType": "C4", "region": "ny2"}
    assert await api.get("/v1/machine-availability", **query) == {"available": True}


async def test_a_project_looks_the_same_in_a_page_and_alone(api: Api) -> None:
    page = await api.get("/v1/projects")
    assert page["items"] == [await api.get("/v1/projects/default")]
    assert page["items"][0]["repoName"] is None
