"""Every refusal has the one shape: for strangers, huge bodies, rubbish, and our own mistakes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from hale.api.limits import BODY_LIMIT, DRAIN_LIMIT
from hale.errors import StoreError
from tests.api.conftest import TOKEN, Api, Refusal, spec

# --- strangers ------------------------------------------------------------------------------------


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path that the application answers."""
    described = app.openapi()["paths"]
    yield from ((method.upper(), path) for path, methods in described.items() for method in methods)
    hidden = {route.path for route in app.routes if isinstance(route, Route)} - set(described)
    yield from (("GET", path) for path in hidden)


async def test_every_route_but_health_wants_the_token(api: Api) -> None:
    found = [each for each in operations(api.app) if each != ("GET", "/v1/health")]
    assert len(found) > 25
    assert ("GET", "/v1/openapi.json") in found
    for method, path in found:
        answer = await api.client.request(method, path, headers={"Authorization": ""})
        assert Refusal.of(answer).code == "UNAUTHORIZED", (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert api.downs == []


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Bearer a", "Bearer a tokens", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}, x",
     "Bearer \xff\xfe", f"Bearer {TOKEN}\0"],
)  # fmt: skip
async def test_another_token_is_none(api: Api, given: str) -> None:
    answer = await api.client.get("/v1/deployments", headers={"Authorization": given.encode("latin-1")})
    assert Refusal.of(answer).status == 401


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
async def test_the_word_bearer_may_be_written_as_one_likes(api: Api, given: str) -> None:
    answer = await api.client.get("/v1/deployments", headers={"Authorization": given})
    assert answer.status_code == 200


async def test_health_wants_no_token_and_is_a_json_string(api: Api) -> None:
    answer = await api.client.get("/v1/health", headers={"Authorization": ""})
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        200, '"HEALTHY"', "application/json",
    )  # fmt: skip


async def test_a_stranger_learns_not_even_which_paths_there_are(api: Api) -> None:
    answer = await api.client.get("/v1/nowhere", headers={"Authorization": ""})
    assert Refusal.of(answer).code == "UNAUTHORIZED"


async def test_a_strangers_body_is_not_read(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    answer = await api.client.post("/v1/deployments", content=endless(), headers={"Authorization": ""})
    assert answer.status_code == 401


# --- the framework's own errors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", "NOT_FOUND"),
        ("GET", "/v1/nowhere", "NOT_FOUND"),
        ("GET", "/v1/deployments/", "NOT_FOUND"),
        ("GET", "/docs", "NOT_FOUND"),
        ("POST", "/v1/health", "METHOD_NOT_SUPPORTED"),
        ("PUT", "/v1/deployments", "METHOD_NOT_SUPPORTED"),
        ("HEAD", "/v1/deployments", None),
        ("OPTIONS", "/v1/deployments", "METHOD_NOT_SUPPORTED"),
    ],
)
async def test_errors_of_the_framework_have_the_one_shape(
    api: Api, method: str, path: str, code: str | None
) -> None:
    answer = await api.client.request(method, path)
    if code is None:
        assert answer.status_code == 405
    else:
        assert Refusal.of(answer).code == code


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/deployments", "GET, POST"),
        ("PUT", "/v1/deployments/some", "DELETE, GET, PATCH"),
        ("OPTIONS", "/v1/projects/default", "DELETE, GET, PUT"),
        ("GET", "/v1/down", "POST"),
    ],
)
async def test_a_wrong_method_is_told_every_right_one(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"{'a': 1}", b"\xff\xfe", b"[" * 100_000,
        b'{"projectId": NaN}', b'{"a": 1e999}', b'{"a": 1, "a": 1}',
        b'{"projectId": "\\ud800"}', b"1" * 10_000, b"name: web", b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
async def test_a_body_that_is_not_json_is_a_parse_error(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refusal = Refusal.of(await api.client.post("/v1/deployments", content=body, headers=headers))
    assert (refusal.status, refusal.code) == (400, "PARSE_ERROR")
    assert len(refusal.message) < 300


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain", "nonsense"])
async def test_json_is_understood_whatever_it_is_called(api: Api, kind: str | None) -> None:
    body = json.dumps({"projectId": "default", "config": spec()})
    headers = {"Content-Type": kind} if kind else {}
    assert (await api.client.post("/v1/deployments", content=body, headers=headers)).status_code == 200


async def test_a_form_is_a_parse_error(api: Api) -> None:
    answer = await api.client.post("/v1/deployments", data={"projectId": "default"})
    assert Refusal.of(answer).code == "PARSE_ERROR"


# --- size -----------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    body = json.dumps({"projectId": "default", "config": spec()}).encode()
    return body + b" " * (size - len(body))


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 64 * 1024):
        yield body[start : start + 64 * 1024]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_a_mebibyte_is_taken(api: Api, chunked: bool) -> None:
    body = padded(BODY_LIMIT)
    answer = await api.client.post("/v1/deployments", content=chunks(body) if chunked else body)
    assert answer.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/deployments", "/v1/projects"])
async def test_a_larger_body_is_refused(api: Api, path: str, chunked: bool) -> None:
    body = padded(BODY_LIMIT + 1)
    answer = await api.client.post(path, content=chunks(body) if chunked else body)
    assert Refusal.of(answer).code == "PAYLOAD_TOO_LARGE"
    assert await api.store.deployments() == []


async def test_the_rest_of_a_larger_body_is_taken_so_that_the_answer_can_be_read(api: Api) -> None:
    sent: list[int] = []

    async def counted() -> AsyncIterator[bytes]:
        for chunk in range(40):
            sent.append(chunk)
            yield b" " * (64 * 1024)

    assert Refusal.of(await api.client.post("/v1/deployments", content=counted())).status == 413
    assert len(sent) == 40


async def test_an_endless_body_is_broken_off_in_the_end(api: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 256 * 1024
            yield b" " * (256 * 1024)

    assert Refusal.of(await api.client.post("/v1/deployments", content=endless())).status == 413
    assert sent <= BODY_LIMIT + DRAIN_LIMIT + 2 * 256 * 1024


async def test_a_body_that_trickles_without_end_is_broken_off_in_the_end(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b" " * (BODY_LIMIT + 1)
        while True:
            await asyncio.sleep(1)
            yield b" "

    assert Refusal.of(await api.client.post("/v1/deployments", content=endless())).status == 413


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(api: Api) -> None:
    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(10)

    refusal = Refusal.of(await api.client.post("/v1/deployments", content=slow()))
    assert (refusal.code, "30 s" in refusal.message) == ("TIMEOUT", True)


@pytest.mark.parametrize("announced", [str(BODY_LIMIT + 1), "9" * 5000])
async def test_a_client_that_asks_before_it_sends_is_told_not_to(api: Api, announced: str) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    headers = {"Content-Length": announced, "Expect": "100-continue"}
    answer = await api.client.post("/v1/deployments", content=unread(), headers=headers)
    assert Refusal.of(answer).status == 413


# --- our own --------------------------------------------------------------------------------------


async def test_a_hint_is_in_the_message(api: Api) -> None:
    deployment_id = await api.apply()
    refusal = await api.refused("PATCH", f"/v1/deployments/{deployment_id}", {})
    assert refusal.message.endswith("nothing to change is given (hint: send replicas or enabled)")


async def test_a_store_that_can_not_is_an_internal_error_with_its_reason(api: Api) -> None:
    async def full(*_: object) -> None:
        raise StoreError("cannot write to the database: the disk is full", hint="make room")

    api.store.apply = full  # type: ignore[method-assign]
    refusal = await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": spec()})
    assert (refusal.code, refusal.message) == (
        "INTERNAL_SERVER_ERROR", "cannot write to the database: the disk is full (hint: make room)",
    )  # fmt: skip


async def test_a_deployment_is_looked_at_even_if_its_events_could_not_be_kept(api: Api) -> None:
    async def full(*_: object) -> None:
        raise StoreError("cannot write to the database: the disk is full")

    api.store.append = full  # type: ignore[method-assign,assignment]
    await api.refused("POST", "/v1/deployments", {"projectId": "default", "config": spec()})
    (deployment,) = await api.store.deployments()
    assert api.platform.woken == [deployment.id]


async def test_a_mistake_of_ours_tells_nothing_and_has_the_one_shape(api: Api) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("a secret")

    api.store.deployments = broken  # type: ignore[method-assign,assignment]
    transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://hale", headers=api.client.headers
    ) as client:
        answer = await client.get("/v1/deployments")
    assert Refusal.of(answer).code == "INTERNAL_SERVER_ERROR"
    assert "secret" not in answer.text


# --- rubbish --------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
KEYS = (
    "name",
    "command",
    "env",
    "healthChecks",
    "resources",
    "hale",
    "image",
    "enabled",
    "basicAuthKey",
    "x",
)
configs = st.dictionaries(st.sampled_from(KEYS), anything, max_size=4).map(lambda part: spec() | part)
bodies = st.one_of(
    st.binary(max_size=200),
    anything.map(lambda value: json.dumps(value).encode()),
    configs.map(lambda config: json.dumps({"projectId": "default", "config": config}).encode()),
)
REQUESTS = [
    ("POST", "/v1/deployments"),
    ("PATCH", "/v1/deployments/{}"),
    ("POST", "/v1/deployments/{}/rollback"),
    ("POST", "/v1/deployments/{}/restart"),
    ("POST", "/v1/projects"),
    ("PUT", "/v1/projects/default"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(body=bodies)
async def test_no_body_is_an_internal_error(api: Api, method: str, path: str, body: bytes) -> None:
    deployment_id = await api.apply("of the fuzz")
    answer = await api.client.request(method, path.format(deployment_id), content=body)
    if answer.status_code != 200:
        assert Refusal.of(answer).status in (400, 404, 409)
    assert (await api.client.get("/v1/deployments")).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/deployments", "/v1/projects", "/v1/events", "/v1/deployments/{}/logs", "/v1/deployments/{}/runs"],
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    query=st.dictionaries(
        st.sampled_from(("after", "limit", "order", "orderBy", "name", "instanceId")),
        st.text(max_size=30),
        max_size=3,
    )
)
async def test_no_query_is_an_internal_error(api: Api, path: str, query: dict[str, str]) -> None:
    deployment_id = await api.apply("of the fuzz")
    params = {name: value.encode("utf-8", "surrogatepass") for name, value in query.items()}
    answer = await api.client.get(path.format(deployment_id), params=params)
    if answer.status_code != 200:
        assert Refusal.of(answer).status in (400, 404)


@pytest.mark.parametrize("part", ["%00", "%FF", "%2E%2E%2F", "%F0%9F%9A%80", "x" * 3000, "%0D%0A", "'--"])
async def test_no_path_is_an_internal_error(api: Api, part: str) -> None:
    for path in (
        f"/v1/deployments/{part}",
        f"/v1/deployments/{part}/events",
        f"/v1/projects/{part}",
        f"/{part}",
    ):
        for method in ("GET", "DELETE"):
            assert Refusal.of(await api.client.request(method, path)).status in (404, 405)


async def test_the_description_of_the_api_names_every_answer(api: Api) -> None:
    document: dict[str, Any] = await api.get("/v1/openapi.json")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert "default" in operation["responses"], (method, path)
            assert "422" not in operation["responses"], (method, path)
