"""Gradient's own clients, replayed: the calls that `pspace` and `deploy-action` make, read as strictly.

Both were run for real against hale; what they send, in which order, and what they crash on is kept here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
from kit.daemon import Hale, Json, replica_command, web_spec
from kit.until import until

pytestmark = pytest.mark.e2e

BAD_STATES = {"errored", "failed"}
CODES = {
    "PARSE_ERROR", "BAD_REQUEST", "INTERNAL_SERVER_ERROR", "UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND",
    "METHOD_NOT_SUPPORTED", "TIMEOUT", "CONFLICT", "PRECONDITION_FAILED", "PAYLOAD_TOO_LARGE",
    "TOO_MANY_REQUESTS", "CLIENT_CLOSED_REQUEST",
}  # fmt: skip
PAGE = {"items": list, "hasMore": bool, "nextPage?": str}
DEPLOYMENT = {
    "id": str, "name": str, "projectId": str, "teamId": str, "endpoint": str, "dtCreated": datetime,
    "latestSpecHash": (str, None), "basicAuthKey": (str, None), "latestSpec": (dict, None),
}  # fmt: skip
SPEC = {
    "id": str, "deploymentId": str, "userId": str, "data": (dict, None), "externalApplied": (datetime, None),
    "dtHealthy": (datetime, None), "error": (str, None), "metadata": (dict, None),
}  # fmt: skip
RUN = {"id": str, "replicas": int, "readyReplicas": int, "availableReplicas": int, "instances": list}
INSTANCE = {
    "id": str, "instanceId": str, "state": str, "stateMessage": (str, None), "dtCreated": datetime,
    "dtFinished": (datetime, None), "history": list,
}  # fmt: skip
STATE = {"state": str, "message": (str, None), "timestamp": datetime}
PROJECT = {
    "id": str, "name": str, "dtCreated": datetime, "dtDeleted": (datetime, None), "repoNodeId": (str, None),
    "repoName": (str, None), "repoUrl": (str, None),
}  # fmt: skip

Shape = Mapping[str, Any]


def strict(value: Json, shape: Shape) -> Json:
    """The value, if it has these keys and no others, each of its type; as zod's `.strict()` reads."""
    assert isinstance(value, dict), f"no object: {value!r}"
    needed = {name for name in shape if not name.endswith("?")}
    known = {name.removesuffix("?") for name in shape}
    assert needed <= set(value) <= known, f"{sorted(value)} is not {sorted(shape)}"
    for name, each in value.items():
        kinds = shape.get(name, shape.get(f"{name}?"))
        assert any(_is(each, kind) for kind in (kinds if isinstance(kinds, tuple) else (kinds,))), (
            name,
            each,
        )
    return value


def _is(value: Json, kind: Any) -> bool:
    if kind is datetime:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    return value is None if kind is None else type(value) is kind


def deployment_of(answer: httpx.Response) -> Json:
    found = strict(answer.json(), DEPLOYMENT)
    strict(found["latestSpec"], SPEC)
    return found


def runs_of(answer: httpx.Response) -> Json:
    runs = answer.json()
    for instance in [each for run in runs for each in strict(run, RUN)["instances"]]:
        for state in strict(instance, INSTANCE)["history"]:
            strict(state, STATE)
    return runs


@dataclass
class RefusedError(Exception):
    """What a client shows when the API says no."""

    code: str
    message: str
    issues: list[str] = field(default_factory=list)


@dataclass
class Client:
    """How both clients speak: with a bearer key, JSON in and out, and one shape of errors."""

    http: httpx.Client
    headers: Mapping[str, str]

    def call(self, method: str, path: str, body: Json = None, **query: str) -> httpx.Response:
        answer = self.http.request(method, path, json=body, params=query or None, headers=self.headers)
        assert "application/json" in answer.headers["content-type"]
        value = answer.json()
        # pspace takes a success of three keys with `code` and `message` in it for an error, too.
        looks_wrong = isinstance(value, dict) and {"code", "message"} <= set(value) and len(value) <= 3
        if answer.status_code >= 400 or looks_wrong:
            raise self._refused(value)
        return answer

    @staticmethod
    def _refused(value: Json) -> RefusedError:
        strict(value, {"code": str, "message": str, "issues?": list})
        assert value["code"] in CODES
        issues = [strict(issue, {"message": str})["message"] for issue in value.get("issues", [])]
        return RefusedError(value["code"], value["message"], issues)


class Pspace(Client):
    """`pspace` of Paperspace/cli."""

    def up(self, project: str, config: Mapping[str, Json]) -> Json:
        """`pspace up --project-id`; the deployment, once it says that it is ready or disabled."""
        strict(self.call("GET", f"projects/{project}").json(), PROJECT)
        sent = {name: value for name, value in config.items() if name != "$schema"}
        made = self.call("POST", "deployments", {"projectId": project, "config": sent}).json()
        deployment_id = strict(made, {"deploymentId": str})["deploymentId"]
        return until(lambda: self._done(deployment_id, config), what="pspace says that it is ready")

    def _done(self, deployment_id: str, config: Mapping[str, Json]) -> Json:
        deployment = deployment_of(self.call("GET", f"deployments/{deployment_id}"))
        if not deployment["latestSpec"]["externalApplied"]:
            return None
        if not config.get("enabled") or config["resources"].get("replicas") == 0:
            return deployment
        runs = runs_of(self.call("GET", f"deployments/{deployment_id}/runs"))
        return deployment if runs and deployment["latestSpec"]["dtHealthy"] else None

    def fields(self, path: str, *names: str, **query: str) -> Json:
        """`--json -F name`: only of a page that has all three keys, else of the page itself."""
        value = self.call("GET", path, json="true", **query).json()
        if {"items", "hasMore", "nextPage"} <= set(value):
            return [{name: item.get(name) for name in names} for item in value["items"]]
        return {name: value.get(name) for name in names}


class DeployAction(Client):
    """`deploy-action`: a GitHub action that deploys the image that was just built."""

    def run(self, project: str, config: Mapping[str, Json], image: str) -> str:
        """What it says in the end; raises what it fails with."""
        page = self.call("GET", f"projects/{project}/deployments", name=config["name"]).json()
        for found in strict(page, PAGE)["items"]:
            strict(found, DEPLOYMENT)
        sent = {"apiVersion": "latest", **config, "image": image}
        made = self.call("POST", "deployments", {"config": sent, "projectId": project}).json()
        deployment_id = strict(made, {"deploymentId": str})["deploymentId"]
        return until(lambda: self._outcome(deployment_id), what="the action ends")

    def _outcome(self, deployment_id: str) -> str:
        runs = runs_of(self.call("GET", f"deployments/{deployment_id}/runs"))
        newest = deployment_of(self.call("GET", f"deployments/{deployment_id}"))["latestSpec"]
        if not newest["externalApplied"]:
            return f"Deployment upsert failed. {newest['error']}" if newest["error"] else ""
        data = newest["data"]
        if not runs and (data.get("enabled") is False or not data["resources"]["replicas"]):
            return "Deployment successfully disabled."
        return "Deployment update complete." if newest["dtHealthy"] else ""

    def last_message(self, deployment_id: str) -> str | None:
        """What it shows when its time is over: of the first instance in a bad state."""
        runs = runs_of(self.call("GET", f"deployments/{deployment_id}/runs"))
        bad = [each for run in runs for each in run["instances"] if each["state"] in BAD_STATES]
        return bad[0]["stateMessage"] if bad else None


GIT = {
    "x-git-host": "github", "x-git-actor": "ann", "x-git-owner": "acme", "x-git-repo": "web",
    "x-git-ref": "main", "x-git-sha": "abc123",
}  # fmt: skip


@pytest.fixture(scope="module")
def process_hale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hale]:
    """A hale that leaves images aside: both clients want one in every spec."""
    hale = Hale(tmp_path_factory.mktemp("clients") / "hale", options=["--engine", "process"])
    try:
        yield hale.start()
    finally:
        hale.end()


@pytest.fixture
def pspace(process_hale: Hale) -> Pspace:
    return Pspace(process_hale.api, {"x-client": "paperspace-cli", "x-client-version": "1.10.1"})


@pytest.fixture
def action(process_hale: Hale) -> DeployAction:
    return DeployAction(process_hale.api, GIT)


@pytest.fixture
def config(request: pytest.FixtureRequest, process_hale: Hale) -> Iterator[Callable[..., dict[str, Json]]]:
    """A spec under the test's own name; its deployment is deleted afterwards."""
    name = f"acme/{request.node.name.removeprefix('test_')}"[:200]

    def make(**fields: object) -> dict[str, Json]:
        return web_spec(name, image="acme/web:1", **({"replicas": 1} | fields))  # type: ignore[arg-type]

    yield make
    for each in process_hale.get("deployments", name=name)["items"]:
        process_hale.delete(each["id"])


# --- pspace ---------------------------------------------------------------------------------


def test_pspace_up_ends_once_the_application_is_ready(
    pspace: Pspace, config: Callable[..., dict[str, Json]], process_hale: Hale
) -> None:
    schema = "https://paperspace.com/config.schema.json"
    deployment = pspace.up("default", {"$schema": schema} | config(enabled=True, replicas=2))
    assert process_hale.ask(deployment["endpoint"]).status_code == 200
    again = pspace.up("default", config(enabled=True, replicas=2, version="2"))
    assert again["id"] == deployment["id"]
    assert process_hale.ask(again["endpoint"]).json()["version"] == "2"


@pytest.mark.parametrize(
    "fields",
    [{"enabled": False}, {"enabled": True, "replicas": 0}, {}],
    ids=["disabled", "no replicas", "without a word on it"],
)
def test_pspace_up_ends_at_once_for_what_it_takes_for_disabled(
    pspace: Pspace, config: Callable[..., dict[str, Json]], fields: dict[str, Json]
) -> None:
    assert pspace.up("default", config(**fields))["latestSpec"]["externalApplied"]


def test_pspace_up_of_a_new_version_is_not_ready_by_the_old_one(
    pspace: Pspace, config: Callable[..., dict[str, Json]]
) -> None:
    first = pspace.up("default", config(enabled=True))
    broken = config(enabled=True, options=["--readiness", "503"])
    made = pspace.call("POST", "deployments", {"projectId": "default", "config": broken}).json()
    assert made["deploymentId"] == first["id"]

    def waiting() -> bool:
        newest = deployment_of(pspace.call("GET", f"deployments/{first['id']}"))["latestSpec"]
        runs = runs_of(pspace.call("GET", f"deployments/{first['id']}/runs"))
        states = {each["state"] for each in runs[0]["instances"]}
        assert (newest["id"], newest["dtHealthy"]) == (runs[0]["id"], None)
        return bool(newest["externalApplied"]) and "pending" in states and len(runs) == 2

    until(waiting, what="the new version is applied and starting, beside the old one")


def test_pspace_shows_why_instances_fail(pspace: Pspace, config: Callable[..., dict[str, Json]]) -> None:
    body = {"projectId": "default", "config": config(enabled=True, command=["false"])}
    made = pspace.call("POST", "deployments", body).json()

    def errored() -> str | None:
        (run,) = runs_of(pspace.call("GET", f"deployments/{made['deploymentId']}/runs"))
        assert (run["replicas"], run["readyReplicas"]) == (1, 0)
        return next((each["stateMessage"] for each in run["instances"] if each["state"] in BAD_STATES), None)

    assert "exited with code 1" in (until(errored, what="an instance has failed") or "")


def test_pspace_picks_fields_of_a_list_and_of_one(
    pspace: Pspace, config: Callable[..., dict[str, Json]]
) -> None:
    deployment = pspace.up("default", config(enabled=False))
    name = {"name": deployment["name"]}
    assert name in pspace.fields("deployments", "name")
    assert len(pspace.fields("deployments", "name", limit="1")) == 1
    assert pspace.fields(f"deployments/{deployment['id']}", "name") == name


def test_pspace_walks_through_pages_in_both_directions(
    pspace: Pspace, config: Callable[..., dict[str, Json]]
) -> None:
    spec = config(enabled=False)
    made = [pspace.up("default", spec | {"name": f"{spec['name']}{n}"})["id"] for n in range(3)]
    found = {}
    for order in ({"order": "asc"}, {}):
        query: dict[str, str] = {"limit": "1", "orderBy": "dtCreated", **order}
        ids: list[str] = []
        while True:
            page = strict(
                pspace.call("GET", "deployments", **query).json(), PAGE | {"nextPage?": (str, None)}
            )
            ids += [strict(each, DEPLOYMENT)["id"] for each in page["items"]]
            if not page["hasMore"]:
                break
            query["after"] = page["nextPage"]
        found[order.get("order", "desc")] = [each for each in ids if each in made]
    assert found == {"asc": made, "desc": made[::-1]}
    for each in made:
        assert strict(pspace.call("DELETE", f"deployments/{each}").json(), {"id": str}) == {"id": each}
        with pytest.raises(RefusedError, match="NOT_FOUND"):
            pspace.call("GET", f"deployments/{each}")


def test_pspace_makes_shows_renames_and_deletes_projects(pspace: Pspace) -> None:
    made = strict(pspace.call("POST", "projects", {"name": "demo"}).json(), PROJECT)
    listed = pspace.call("GET", "projects", limit="50").json()
    assert made in [strict(each, PROJECT) for each in listed["items"]]
    renamed = pspace.call("PUT", f"projects/{made['id']}", {"name": "demo2"}).json()
    assert strict(renamed, PROJECT) == made | {"name": "demo2"}
    strict(pspace.call("DELETE", f"projects/{made['id']}").json(), PROJECT)
    with pytest.raises(RefusedError, match="NOT_FOUND"):
        pspace.up(made["id"], {})


def test_pspace_logs_in_and_asks_whether_it_may_deploy(pspace: Pspace) -> None:
    assert pspace.call("GET", "auth/session").json()["team"]["namespace"]
    standing = pspace.call("GET", "billing/account-standing").json()
    assert (standing["isInGoodStanding"], standing["isAdminLocked"]) == (True, False)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (("GET", "deployments/nope"), "NOT_FOUND"),
        (("GET", "deployments?limit=500"), "BAD_REQUEST"),
        (("GET", "projects/nope/secrets"), "NOT_FOUND"),
        (("PATCH", "projects/default", {}), "METHOD_NOT_SUPPORTED"),
        (("POST", "deployments", []), "BAD_REQUEST"),
    ],
)
def test_pspace_can_read_every_refusal(pspace: Pspace, call: tuple[Any, ...], code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        pspace.call(*call)
    assert refused.value.code == code


def test_pspace_with_a_wrong_key_is_told_so(pspace: Pspace) -> None:
    stranger = Pspace(pspace.http, {**pspace.headers, "Authorization": "Bearer wrong"})
    with pytest.raises(RefusedError) as refused:
        stranger.call("GET", "deployments")
    assert refused.value.code == "UNAUTHORIZED"


# --- deploy-action --------------------------------------------------------------------------


def old_spec(name: str, **fields: object) -> dict[str, Json]:
    """As the action's users write it: no apiVersion, the fields of v0alpha0, `:image`."""
    checks = {kind: {"path": f"/{kind}", "periodSeconds": 1} for kind in ("startup", "readiness", "liveness")}
    spec = {
        "name": name,
        "image": ":image",
        "command": replica_command(),
        "port": 8000,
        "resources": {"instanceType": "C4", "replicas": fields.pop("replicas", 1)},
        "healthChecks": checks,
    }
    return spec | fields


def test_deploy_action_deploys_then_switches_off_and_on(
    action: DeployAction, config: Callable[..., dict[str, Json]], process_hale: Hale
) -> None:
    name = config()["name"]
    assert action.run("default", old_spec(name), "acme/web:1") == "Deployment update complete."
    (deployment,) = process_hale.get("deployments", name=name)["items"]
    assert deployment["latestSpec"]["data"]["image"] == "acme/web:1"
    assert deployment["latestSpec"]["metadata"] == {"gitHeaders": GIT}
    for off in ({"enabled": False}, {"replicas": 0}):
        said = action.run("default", old_spec(name, **off), "acme/web:2")
        assert said == "Deployment successfully disabled."
        assert process_hale.replicas(deployment["id"]) == []
    assert action.run("default", old_spec(name), "acme/web:2") == "Deployment update complete."
    assert process_hale.ask(deployment["endpoint"]).status_code == 200


def test_deploy_action_shows_why_instances_fail(
    action: DeployAction, config: Callable[..., dict[str, Json]]
) -> None:
    sent = config(command=["false"])
    made = action.call("POST", "deployments", {"config": sent, "projectId": "default"}).json()
    message = until(lambda: action.last_message(made["deploymentId"]), what="an instance has failed")
    assert message.startswith("exited with code 1")


def test_deploy_action_prints_every_issue(
    action: DeployAction, config: Callable[..., dict[str, Json]], process_hale: Hale
) -> None:
    wrong = config() | {"resources": {"machineType": "C4", "ports": "80", "replcias": 2}, "basicAuthKey": 5}
    with pytest.raises(RefusedError) as refused:
        action.run("default", wrong, "acme/web:1")
    paths = [issue.partition(":")[0] for issue in refused.value.issues]
    assert paths == ["basicAuthKey", "resources.ports", "resources.replcias"]
    assert process_hale.get("deployments", name=wrong["name"])["items"] == []


def test_deploy_action_is_told_of_a_project_that_is_not_there(
    action: DeployAction, config: Callable[..., dict[str, Json]]
) -> None:
    with pytest.raises(RefusedError) as refused:
        action.run("nowhere", config(), "acme/web:1")
    assert refused.value.code == "NOT_FOUND"


# --- others ---------------------------------------------------------------------------------


def test_the_withdrawn_graphql_client_is_told_that_there_is_no_such_path(process_hale: Hale) -> None:
    url = process_hale.api.base_url.join("/graphql")
    answer = process_hale.api.post(url, json={"query": "{ deployments { nodes { id } } }"})
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_script_that_posts_with_curl_is_understood(
    process_hale: Hale, config: Callable[..., dict[str, Json]]
) -> None:
    """`curl -d` says that everything is a form."""
    body = httpx.Request(
        "POST", "http://x", json={"projectId": "default", "config": config(enabled=False)}
    ).content
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert process_hale.api.post("deployments", content=body, headers=headers).status_code == 200
