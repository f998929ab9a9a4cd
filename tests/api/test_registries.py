"""Connections to container registries: kept, checked, tried, never shown with their password."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hale.core.image import Credentials
from hale.errors import EngineUnavailableError, PreparationError
from tests.api.conftest import Api
from tests.api.openapi import assert_answers

PATH = "/v1/container-registries"
PASSWORD = "p4ssword-that-nobody-may-read"


def body(**changes: object) -> dict[str, Any]:
    """A valid connection; None takes a key away."""
    given = {
        "name": "mine",
        "url": "https://registry.example.com",
        "namespace": "team",
        "username": "ada",
        "password": PASSWORD,
    } | changes
    return {key: value for key, value in given.items() if value is not None}


async def test_a_registry_is_made_shown_changed_and_forgotten(api: Api) -> None:
    made = await api.post(PATH, body())
    assert_answers("POST /container-registries", made)
    assert made == {
        "id": made["id"],
        "name": "mine",
        "url": "https://registry.example.com",
        "namespace": "team",
        "username": "ada",
        "dtCreated": "2023-11-14T22:13:20.000Z",
        "dtModified": "2023-11-14T22:13:20.000Z",
        "kind": "other",
    }
    place = f"{PATH}/{made['id']}"
    shown = await api.get(place)
    assert_answers("GET /container-registries/{id}", shown)
    page = await api.get(PATH)
    assert_answers("GET /container-registries", page)
    assert (shown, page) == (made, {"items": [made], "hasMore": False})
    await asyncio.sleep(1)
    changed = await api.put(place, {"username": "bob", "namespace": ""})
    assert_answers("PUT /container-registries/{id}", changed)
    assert changed == made | {"username": "bob", "namespace": "", "dtModified": "2023-11-14T22:13:21.000Z"}
    gone = await api.delete(place)
    assert_answers("DELETE /container-registries/{id}", gone)
    assert gone == changed
    for method in ("GET", "PUT", "DELETE"):
        refusal = await api.refused(method, place, {} if method == "PUT" else None)
        assert (refusal.code, made["id"] in refusal.message) == ("NOT_FOUND", True)
    assert (await api.refused("GET", f"{place}/test-connection")).code == "NOT_FOUND"


async def test_a_change_keeps_what_is_not_given_and_takes_what_is(api: Api) -> None:
    made = await api.post(PATH, body(kind="other"))
    await api.put(f"{PATH}/{made['id']}", {"url": "localhost:5000"})
    (kept,) = await api.store.registries()
    assert (kept.url, kept.password, kept.kind) == ("localhost:5000", PASSWORD, "other")
    await api.put(f"{PATH}/{made['id']}", {"password": "new"})
    assert (await api.store.registries())[0].password == "new"
    before = await api.get(f"{PATH}/{made['id']}")
    await asyncio.sleep(1)
    assert await api.put(f"{PATH}/{made['id']}", {}) == before


async def test_no_answer_has_a_password(api: Api) -> None:
    made = await api.client.post(PATH, json=body())
    place = f"{PATH}/{made.json()['id']}"
    answers = [
        made,
        await api.client.post(PATH, json=body()),
        await api.client.post(PATH, json=body(password=[PASSWORD])),
        await api.client.post(PATH, json=body(name="x", url=f"https://ada:{PASSWORD}@registry.example.com")),
        await api.client.post(PATH, json=body(name="x", kind="ghcr", url=f"https://ada:{PASSWORD}@ghcr.io")),
        await api.client.post(PATH, json=body(name="x", more=PASSWORD)),
        await api.client.put(place, json={"password": PASSWORD}),
        await api.client.put(place, json={"password": PASSWORD, "url": "nowhere"}),
        await api.client.get(place),
        await api.client.get(PATH),
        await api.client.get(f"{place}/test-connection"),
        await api.client.delete(place),
    ]
    assert [answer.status_code for answer in answers] == [
        200, 409, 400, 400, 400, 400, 200, 400, 200, 200, 200, 200,
    ]  # fmt: skip
    assert [answer.text for answer in answers if PASSWORD in answer.text] == []


async def test_a_name_is_taken_once(api: Api) -> None:
    first, second = [await api.post(PATH, body(name=name)) for name in ("mine", "other")]
    for method, path in (("POST", PATH), ("PUT", f"{PATH}/{second['id']}")):
        refusal = await api.refused(method, path, body(name="mine"))
        assert (refusal.code, "another one of that name" in refusal.message) == ("CONFLICT", True)
    assert await api.put(f"{PATH}/{first['id']}", {"name": "mine"}) == first
    assert [each.name for each in await api.store.registries()] == ["mine", "other"]


async def test_registries_come_in_pages_newest_first(api: Api) -> None:
    for name in "abc":
        await api.post(PATH, body(name=name))
        await asyncio.sleep(1)
    first = await api.get(PATH, limit=2)
    assert_answers("GET /container-registries", first)
    second = await api.get(PATH, limit=2, after=first["nextPage"])
    assert [each["name"] for each in first["items"] + second["items"]] == ["c", "b", "a"]


@pytest.mark.parametrize("missing", ["name", "url", "namespace", "username", "password"])
async def test_every_field_but_the_kind_is_needed(api: Api, missing: str) -> None:
    refusal = await api.refused("POST", PATH, body(**{missing: None}))
    assert (refusal.code, refusal.issues) == ("BAD_REQUEST", (f"{missing}: field required",))


@pytest.mark.parametrize(
    ("kind", "url", "namespace"),
    [
        ("other", "registry.example.com:5000", ""),
        ("other", "HTTP://localhost:5000/v2/", "/"),
        ("other", "localhost", "a/b"),
        ("other", "[::1]:5000", ""),
        ("dockerhub", "docker.io", "ada"),
        ("dockerhub", "https://index.docker.io/v1/", "ada"),
        ("ghcr", "https://ghcr.io", "Ada"),
        ("gcr", "eu.gcr.io", "example.com:project"),
        ("gcr", "europe-west1-docker.pkg.dev/project/repository", "project"),
        ("digitalocean", "registry.digitalocean.com", "mine"),
        ("azure", "mine.azurecr.io", "/"),
    ],
)
async def test_what_a_kind_allows_is_kept_as_it_is_written(
    api: Api, kind: str, url: str, namespace: str
) -> None:
    made = await api.post(PATH, body(kind=kind, url=url, namespace=namespace))
    assert_answers("POST /container-registries", made)
    assert (made["kind"], made["url"], made["namespace"]) == (kind, url, namespace)


NO_HOST = "url: must be a host (and port), with http:// or https:// before it if you like"
OTHERWISE = "url: must have a dot, a port, or be localhost: a name of an image could not say it otherwise"
NO_USER = "url: must not contain a user or password: they have fields of their own"
GOOGLE = "gcr.io, <region>.gcr.io or <region>-docker.pkg.dev"
COLON = "username: must not contain a colon or control characters: a registry could not tell it apart"


def elsewhere(kind: str, place: str, url: str) -> str:
    return f"url: must be {place} for kind {kind}, and is {url}"


def nobodys(kind: str, owner: str) -> str:
    return f"namespace: must be {owner} that the images belong to, for kind {kind}"


@pytest.mark.parametrize(
    ("changes", "issues"),
    [
        ({"url": "ftp://registry.example.com"}, [NO_HOST]),
        ({"url": "registry.example.com?x=1"}, [NO_HOST]),
        ({"url": "registry example.com"}, [NO_HOST]),
        ({"url": "registry.example.com:70000"}, [NO_HOST]),
        ({"url": "registry.example.com:0"}, [NO_HOST]),
        ({"url": "https://"}, [NO_HOST]),
        ({"url": "registry"}, [OTHERWISE]),
        ({"url": "a@registry.example.com"}, [NO_USER]),
        ({"kind": "dockerhub", "url": "hub.me.org"}, [elsewhere("dockerhub", "docker.io", "hub.me.org")]),
        ({"kind": "ghcr", "url": "ghcr.io.evil.org"}, [elsewhere("ghcr", "ghcr.io", "ghcr.io.evil.org")]),
        ({"kind": "gcr", "url": "docker.pkg.dev"}, [elsewhere("gcr", GOOGLE, "docker.pkg.dev")]),
        ({"kind": "digitalocean", "url": "digitalocean.com", "namespace": "/"}, [
            nobodys("digitalocean", "the name of the registry"),
            elsewhere("digitalocean", "registry.digitalocean.com", "digitalocean.com"),
        ]),
        ({"kind": "azure", "url": "azurecr.io"}, [elsewhere("azure", "<name>.azurecr.io", "azurecr.io")]),
        ({"kind": "ghcr", "url": "ghcr.io", "namespace": ""}, [nobodys("ghcr", "the user or organization")]),
        ({"namespace": "a b"}, ["namespace: must be letters, digits and . _ - : /, 255 at most"]),
        ({"name": " mine"}, ["name: must be printable text without spaces around it"]),
        ({"username": "a:b"}, [COLON]),
    ],
)  # fmt: skip
async def test_what_a_kind_does_not_allow_is_refused_field_by_field(
    api: Api, changes: dict[str, str], issues: list[str]
) -> None:
    refusal = await api.refused("POST", PATH, body(**changes))
    assert (refusal.code, list(refusal.issues)) == ("BAD_REQUEST", issues)
    assert await api.store.registries() == []


async def test_a_change_is_checked_with_what_it_leaves_as_it_is(api: Api) -> None:
    made = await api.post(PATH, body(kind="ghcr", url="ghcr.io"))
    for change in ({"url": "registry.example.com"}, {"kind": "azure"}, {"namespace": ""}):
        assert (await api.refused("PUT", f"{PATH}/{made['id']}", change)).code == "BAD_REQUEST"
    assert await api.get(f"{PATH}/{made['id']}") == made


@pytest.mark.parametrize(
    "change", [{"kind": "quay"}, {"name": ""}, {"url": ""}, {"username": ""}, {"more": "x"}]
)
async def test_what_the_schema_does_not_have_is_refused(api: Api, change: dict[str, str]) -> None:
    made = await api.post(PATH, body())
    assert (await api.refused("POST", PATH, body(name="other") | change)).code == "BAD_REQUEST"
    assert (await api.refused("PUT", f"{PATH}/{made['id']}", change)).code == "BAD_REQUEST"


async def test_the_test_of_a_connection_logs_in_where_its_images_are(api: Api) -> None:
    made = await api.post(PATH, body(url="https://index.docker.io/v1/", kind="dockerhub"))
    answer = await api.get(f"{PATH}/{made['id']}/test-connection")
    assert_answers("GET /container-registries/{id}/test-connection", answer)
    assert answer == {"success": True}
    assert api.platform.tried == [Credentials("docker.io", "ada", PASSWORD)]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PreparationError("cannot log in: no", event="image.denied", fatal=True, hint="x"),
            "cannot log in: no (hint: x)",
        ),
        (EngineUnavailableError("cannot reach the engine: no answer"), "cannot reach the engine: no answer"),
    ],
)  # fmt: skip
async def test_a_connection_that_does_not_work_says_why(api: Api, error: PreparationError, told: str) -> None:
    made = await api.post(PATH, body())
    api.platform.logins["registry.example.com"] = error
    answer = await api.get(f"{PATH}/{made['id']}/test-connection")
    assert_answers("GET /container-registries/{id}/test-connection", answer)
    assert answer == {"success": False, "error": told}


async def test_a_change_wakes_those_that_wait_for_an_image_from_there_and_no_others(api: Api) -> None:
    registry = await api.post(PATH, body())
    await api.post(PATH, body(name="other"))
    image = "registry.example.com/team/web:1"
    by_name = await api.apply("by-name", image=image, containerRegistry="mine")
    by_id = await api.apply("by-id", image=image, containerRegistry=registry["id"])
    await api.apply("elsewhere", image=image, containerRegistry="other")
    await api.apply("none")
    done = (await api.store.revisions(await api.apply("done", image=image, containerRegistry="mine")))[0]
    await api.store.put_revision(replace(done, prepared_at=7.0))
    api.platform.woken.clear()
    await api.put(f"{PATH}/{registry['id']}", {"password": "corrected"})
    assert api.platform.woken == [by_name, by_id]


async def test_one_that_is_made_anew_wakes_those_that_were_applied_with_the_one_before(api: Api) -> None:
    registry = await api.post(PATH, body())
    web = await api.apply(image="registry.example.com/team/web:1", containerRegistry="mine")
    await api.delete(f"{PATH}/{registry['id']}")
    api.platform.woken.clear()
    await api.post(PATH, body())
    assert api.platform.woken == [web]
