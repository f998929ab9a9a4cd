"""What a revision is applied with: secrets, the image, its preparation, and what it is refused for."""

from dataclasses import replace
from typing import Any

import pytest

from hale.core.deployment import Machine, Revision, Template
from hale.core.event import Level
from hale.core.replica import Phase, Replica
from tests.api.conftest import Api

PROJECT, TEAM = "/v1/projects/default/secrets", "/v1/teams/hale/secrets"
IMAGE = "docker.io/library/web@sha256:1"
ENV = [{"name": "A", "value": "secret:A"}, {"name": "PLAIN", "value": "not secret:A"}]


async def put(api: Api, name: str, value: str, path: str = PROJECT) -> None:
    await api.post(path, {"name": name, "value": value})


async def newest(api: Api, deployment_id: str) -> Revision:
    return (await api.store.revisions(deployment_id))[0]


async def prepared(api: Api, deployment_id: str, image: str = IMAGE) -> None:
    """The platform has pulled the newest revision's image."""
    revision = await newest(api, deployment_id)
    await api.store.put_revision(replace(revision, image=image, prepared_at=7.0))


def values(revision: Revision) -> dict[str, str]:
    return {secret.name: secret.value for secret in revision.secrets}


async def test_an_apply_takes_the_secrets_that_the_spec_refers_to_and_no_others(api: Api) -> None:
    for name in ("A", "DOOR", "UNUSED"):
        await put(api, name, f"value of {name}")
    revision = await newest(api, await api.apply(env=ENV, basicAuthKey="secret:DOOR"))
    assert values(revision) == {"A": "value of A", "DOOR": "value of DOOR"}


async def test_the_projects_secret_goes_before_the_teams(api: Api) -> None:
    other = (await api.post("/v1/projects", {"name": "other"}))["id"]
    await put(api, "A", "of the team", TEAM)
    await put(api, "A", "of default")
    assert values(await newest(api, await api.apply(env=ENV))) == {"A": "of default"}
    assert values(await newest(api, await api.apply(env=ENV, project=other))) == {"A": "of the team"}


async def test_everything_that_is_missing_is_told_at_once_with_its_place(api: Api) -> None:
    api.platform.refusal = "command: there is no such program here"
    await put(api, "A", "there")
    integration = {
        "type": "s3",
        "name": "data",
        "url": "s3://bucket/x",
        "accessKeyId": "secret:KEY_ID",
        "secretAccessKey": "secret:KEY",
    }
    scaling = {"enabled": True, "maxReplicas": 2, "metrics": []}
    config = {
        "apiVersion": "v1",
        "name": "web",
        "image": "web:1",
        "enabled": True,
        "containerRegistry": "nowhere",
        "env": [*ENV, {"name": "B", "value": "secret:B"}],
        "basicAuthKey": "secret:DOOR",
        "integrations": [integration],
        "resources": {"machineType": "C4", "ports": [8000], "autoscaling": scaling},
    }  # fmt: skip
    refusal = await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": config})
    places = [issue.partition(":")[0] for issue in refusal.issues]
    assert places == [
        "resources.autoscaling", "env[2].value", "basicAuthKey", "integrations[0].accessKeyId",
        "integrations[0].secretAccessKey", "containerRegistry", "command",
    ]  # fmt: skip
    assert "there is no secret B" in refusal.issues[1]
    assert refusal.message == "\n  ".join(["cannot apply web: 7 problems", *refusal.issues])
    assert await api.store.deployments() == []


async def test_a_secret_of_another_project_is_missing(api: Api) -> None:
    other = (await api.post("/v1/projects", {"name": "other"}))["id"]
    await put(api, "A", "elsewhere", f"/v1/projects/{other}/secrets")
    refusal = await api.refused(
        "POST", "/v1/deployments", {"projectId": "default", "config": config(env=ENV)}
    )
    assert [issue.partition(":")[0] for issue in refusal.issues] == ["env[0].value"]


def config(**changes: object) -> dict[str, Any]:
    resources = {"machineType": "C4", "ports": [8000]}
    return {"apiVersion": "v1", "name": "web", "command": ["serve"], "resources": resources} | changes


@pytest.mark.parametrize("value", ["line\n", "tab\tin it", "\x7f"])
async def test_a_password_with_control_characters_is_refused_without_being_shown(
    api: Api, value: str
) -> None:
    await put(api, "DOOR", value)
    await put(api, "A", "line\nline")  # a variable may have them
    body = {"projectId": "default", "config": config(env=ENV, basicAuthKey="secret:DOOR")}
    refusal = await api.refused("POST", "/v1/deployments", body)
    (issue,) = refusal.issues
    assert issue.startswith("basicAuthKey: secret DOOR contains control characters")
    assert value not in refusal.message


async def test_a_registry_is_named_by_name_or_id_and_has_to_be_there(api: Api) -> None:
    body = {"name": "mine", "url": "r.example.com", "namespace": "", "username": "ada", "password": "p"}
    registry = await api.post("/v1/container-registries", body)
    for named in ("mine", registry["id"]):
        deployment_id = await api.apply(image="r.example.com/web:1", containerRegistry=named)
        shown = await api.get(f"/v1/deployments/{deployment_id}/spec")
        assert shown["containerRegistry"] == named
    wrong = config(image="r.example.com/web:1", containerRegistry="Mine")
    refusal = await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": wrong})
    assert [issue.partition(":")[0] for issue in refusal.issues] == ["containerRegistry"]


async def test_a_change_carries_secrets_image_and_preparation(api: Api) -> None:
    await put(api, "A", "old")
    deployment_id = await api.apply(env=ENV, image="web:1")
    await prepared(api, deployment_id)
    await api.patch(f"{PROJECT}/A", {"value": "new"})
    for change in ({"replicas": 5}, {"enabled": False}, {"enabled": True}):
        await api.patch(f"/v1/deployments/{deployment_id}", change)
        revision = await newest(api, deployment_id)
        assert (values(revision), revision.image, revision.prepared_at) == ({"A": "old"}, IMAGE, 7.0)
    assert revision.number == 4


async def test_a_change_needs_neither_the_secret_nor_the_registry_any_more(api: Api) -> None:
    await put(api, "A", "old")
    body = {"name": "mine", "url": "r.example.com", "namespace": "", "username": "ada", "password": "p"}
    registry = await api.post("/v1/container-registries", body)
    deployment_id = await api.apply(env=ENV, image="r.example.com/web:1", containerRegistry="mine")
    await api.delete(f"{PROJECT}/A")
    await api.delete(f"/v1/container-registries/{registry['id']}")
    await api.patch(f"/v1/deployments/{deployment_id}", {"replicas": 5})
    assert values(await newest(api, deployment_id)) == {"A": "old"}


async def test_a_change_before_the_preparation_is_done_is_to_be_prepared_itself(api: Api) -> None:
    deployment_id = await api.apply(image="web:1")
    await api.patch(f"/v1/deployments/{deployment_id}", {"replicas": 5})
    revision = await newest(api, deployment_id)
    assert (revision.image, revision.prepared_at) == (None, None)


async def test_applying_again_resolves_and_pulls_anew_whatever_has_changed(api: Api) -> None:
    await put(api, "A", "old")
    deployment_id = await api.apply(env=ENV, image="web:1")
    await prepared(api, deployment_id)
    await api.patch(f"{PROJECT}/A", {"value": "new"})
    await api.apply(env=ENV, image="web:1")
    revision = await newest(api, deployment_id)
    assert (values(revision), revision.image, revision.prepared_at) == ({"A": "new"}, None, None)


async def test_a_password_takes_effect_with_the_next_apply(api: Api) -> None:
    await put(api, "DOOR", "old")
    deployment_id = await api.apply(basicAuthKey="secret:DOOR")
    await api.patch(f"{PROJECT}/DOOR", {"value": "new"})
    assert values(await newest(api, deployment_id)) == {"DOOR": "old"}
    shown = await api.get(f"/v1/deployments/{deployment_id}")
    assert shown["basicAuthKey"] == shown["latestSpec"]["data"]["basicAuthKey"] == "secret:DOOR"
    await api.apply(basicAuthKey="secret:DOOR")
    assert values(await newest(api, deployment_id)) == {"DOOR": "new"}


async def test_a_rollback_carries_the_image_and_resolves_anew(api: Api) -> None:
    await put(api, "A", "old")
    deployment_id = await api.apply(env=ENV, image="web:1")
    await prepared(api, deployment_id)
    await api.apply(image="web:2")
    await prepared(api, deployment_id, image="docker.io/library/web@sha256:2")
    await api.patch(f"{PROJECT}/A", {"value": "new"})
    await api.post(f"/v1/deployments/{deployment_id}/rollback")
    revision = await newest(api, deployment_id)
    assert (values(revision), revision.image, revision.prepared_at) == ({"A": "new"}, IMAGE, None)


async def test_a_rollback_to_what_refers_to_a_secret_that_is_gone_is_refused(api: Api) -> None:
    await put(api, "A", "old")
    deployment_id = await api.apply(env=ENV)
    await api.apply()
    await api.delete(f"{PROJECT}/A")
    refusal = await api.refused("POST", f"/v1/deployments/{deployment_id}/rollback")
    assert (refusal.code, "env[0].value" in refusal.message) == ("BAD_REQUEST", True)
    assert refusal.message.startswith("cannot roll web back to revision 1: ")
    assert (await newest(api, deployment_id)).number == 2


async def test_a_rollback_to_an_image_that_is_known_asks_for_no_registry(api: Api) -> None:
    body = {"name": "mine", "url": "r.example.com", "namespace": "", "username": "ada", "password": "p"}
    registry = await api.post("/v1/container-registries", body)
    deployment_id = await api.apply(image="r.example.com/web:1", containerRegistry="mine")
    await api.apply(image="web:2")
    await api.delete(f"/v1/container-registries/{registry['id']}")
    refusal = await api.refused("POST", f"/v1/deployments/{deployment_id}/rollback")
    assert "containerRegistry" in refusal.message  # never pulled: it would have to be now
    first = (await api.store.revisions(deployment_id))[-1]
    await api.store.put_revision(replace(first, image=IMAGE))
    await api.post(f"/v1/deployments/{deployment_id}/rollback")
    assert (await newest(api, deployment_id)).image == IMAGE


async def test_no_answer_of_a_deployment_has_a_value(api: Api) -> None:
    value = "v4lue-that-nobody-may-read"
    await put(api, "A", value)
    deployment_id = await api.apply(env=ENV, basicAuthKey="secret:A")
    one = f"/v1/deployments/{deployment_id}"
    paths = ["/v1/deployments", "/v1/events", one]
    paths += [
        f"{one}/{part}" for part in ("spec", "health", "runs", "history", "revisions", "events", "logs")
    ]
    answers = [(await api.client.get(path)).text for path in paths]
    assert [answer for answer in answers if value in answer] == []
    assert '"value":"secret:A"' in answers[paths.index(f"{one}/spec")]


async def test_the_platform_is_asked_with_secrets_and_limits_and_its_notes_are_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Template] = []

    def notes(template: Template) -> list[str]:
        asked.append(template)
        return [f"cpus: {template.machine.cpus} are not kept to here"]

    monkeypatch.setattr(api.platform, "notes", notes)
    await put(api, "A", "value")
    deployment_id = await api.apply(env=ENV, region="ny2")
    assert dict(asked[0].env)["A"] == "value"
    assert asked[0].machine == api.app.state.context.settings.machines["C4"] != Machine("C4")
    told = [event.message for event in await api.store.events(deployment_id) if event.level is Level.WARNING]
    limits = f"cpus: {asked[0].machine.cpus} are not kept to here"
    assert told == ["region has no effect here: replicas run on this machine", limits]
    await api.patch(f"/v1/deployments/{deployment_id}", {"replicas": 5})
    every = await api.store.events(deployment_id)
    assert [event.message for event in every if event.level is Level.WARNING] == told


async def test_replicas_of_a_revision_with_secrets_and_an_image_are_counted_to_it(api: Api) -> None:
    await put(api, "A", "value")
    deployment_id = await api.apply(env=ENV, image="web:1")
    await prepared(api, deployment_id)
    await api.patch(f"/v1/deployments/{deployment_id}", {"replicas": 1})
    first = (await api.store.revisions(deployment_id))[-1]
    await api.store.put_replicas([(replica(deployment_id, first.number), {})])
    (run,) = await api.get(f"/v1/deployments/{deployment_id}/runs")
    assert [instance["id"] for instance in run["instances"]] == ["r1"]
    await api.apply(env=ENV, image="web:1")  # not pulled yet: perhaps another image
    runs = await api.get(f"/v1/deployments/{deployment_id}/runs")
    assert [len(run["instances"]) for run in runs] == [0, 1]


def replica(deployment_id: str, revision: int) -> Replica:
    return Replica("r1", deployment_id, revision, "key", 1.0, Phase.READY)
