"""What happens to requests on their way through a real HAProxy."""

import asyncio
import json
import os
import re
import stat
import struct

import pytest
import websockets
from local.balancers.rig import Answer, Client, Place, Rig, basic, eventually

from hale.ports import Route, Server

pytestmark = pytest.mark.real_time

HOST = "web.localhost"


def route(*servers: Server, host: str = HOST, password: str | None = None) -> Route:
    return Route(f"d-{host}", (host,), servers, password)


async def one_place(gateway: Rig, *, password: str | None = None) -> Place:
    place = await gateway.place("a")
    await gateway.balancer.apply([route(place.server(), password=password)])
    return place


async def echo(gateway: Rig, headers: dict[str, str] | None = None) -> dict[str, list[str]]:
    """The headers as they arrived, by name."""
    answer = await gateway.ask("/echo", headers=headers)
    found: dict[str, list[str]] = {}
    for name, value in json.loads(answer.text)["headers"]:
        found.setdefault(name, []).append(value)
    return found


# --- answers of the gateway itself ---


async def test_an_unknown_host_is_told_so_in_json(gateway: Rig) -> None:
    answer = await gateway.ask(host="nobody.localhost")
    assert (answer.status, json.loads(answer.text)["code"]) == (404, "NOT_FOUND")


async def test_a_request_without_a_host_is_404(gateway: Rig) -> None:
    client = await gateway.client()
    client.writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.receive()).status == 404


async def test_no_ready_replica_is_503_with_retry_after(gateway: Rig) -> None:
    await gateway.balancer.apply([route()])
    answer = await gateway.ask()
    assert (answer.status, answer.named["retry-after"]) == (503, "1")


async def test_a_dead_replica_alone_is_503_with_retry_after(gateway: Rig) -> None:
    place = await one_place(gateway)
    await place.close()
    answer = await gateway.ask()
    assert (answer.status, answer.named["retry-after"]) == (503, "1")


# --- passwords ---


@pytest.mark.parametrize(
    "password",
    ["s3cret", "quote\"and'", "two words", "größe ☃", "a:b:c", "%[src]", "back\\slash", "x" * 500, ""],
)
async def test_any_password_opens(gateway: Rig, password: str) -> None:
    await one_place(gateway, password=password)
    assert (await gateway.ask(headers=basic(password))).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param(basic("wrong"), id="another password"),
        pytest.param(basic("right", user="admin"), id="another user"),
        pytest.param(basic("right", scheme="Bearer"), id="another scheme"),
        pytest.param({"Authorization": "Basic"}, id="a scheme alone"),
        pytest.param({"Authorization": "paperspace:right"}, id="not encoded"),
        pytest.param({"Authorization": "Basic locked"}, id="a word of the map"),
    ],
)
async def test_other_credentials_are_401_with_a_challenge(gateway: Rig, headers: dict[str, str]) -> None:
    place = await one_place(gateway, password="right")
    answer = await gateway.ask(headers=headers)
    assert (answer.status, answer.named["www-authenticate"][:6]) == (401, "Basic ")
    assert place.requests == []


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "Basic "])
async def test_the_scheme_is_read_as_rfc_9110_has_it(gateway: Rig, scheme: str) -> None:
    await one_place(gateway, password="right")
    assert (await gateway.ask(headers=basic("right", scheme=scheme))).status == 200


async def test_no_password_is_in_a_file_or_a_process_list(gateway: Rig) -> None:
    await one_place(gateway, password="hunter2")
    files = [path.read_text() for path in gateway.folder.iterdir() if path.is_file()]
    assert not [text for text in files if "hunter2" in text or "aHVudGVyMg" in text]


async def test_nobody_else_may_look_into_the_folder(gateway: Rig) -> None:
    await one_place(gateway)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in gateway.folder.iterdir()}
    assert stat.S_IMODE(gateway.folder.stat().st_mode) == 0o700
    assert {name: mode for name, mode in modes.items() if mode & 0o177} == {}


# --- headers ---


async def test_the_client_is_appended_to_x_forwarded_for(gateway: Rig) -> None:
    await one_place(gateway)
    assert (await echo(gateway))["x-forwarded-for"] == ["127.0.0.1"]
    assert (await echo(gateway, {"X-Forwarded-For": "1.2.3.4"}))["x-forwarded-for"] == ["1.2.3.4, 127.0.0.1"]
    twice = await echo(gateway, {"X-Forwarded-For": "1.2.3.4", "x-forwarded-for": "5.6.7.8"})
    assert twice["x-forwarded-for"] == ["1.2.3.4", "5.6.7.8", "127.0.0.1"]


async def test_the_protocol_is_told(gateway: Rig) -> None:
    await one_place(gateway)
    assert (await echo(gateway))["x-forwarded-proto"] == ["http"]


async def test_a_request_id_is_made_and_told_to_both(gateway: Rig) -> None:
    place = await one_place(gateway)
    answers = [await gateway.ask() for _ in range(2)]
    seen = [dict(request.headers)["x-request-id"] for request in place.requests]
    assert [answer.named["x-request-id"] for answer in answers] == seen
    assert len(set(seen)) == 2
    assert all(re.fullmatch(r"[0-9a-f-]{36}", known) for known in seen)


async def test_the_clients_request_id_is_kept(gateway: Rig) -> None:
    place = await one_place(gateway)
    answer = await gateway.ask(headers={"X-Request-ID": "mine-1"})
    assert answer.named["x-request-id"] == dict(place.requests[0].headers)["x-request-id"] == "mine-1"


async def test_an_empty_request_id_is_replaced(gateway: Rig) -> None:
    place = await one_place(gateway)
    answer = await gateway.ask(headers={"X-Request-ID": ""})
    assert len(answer.named["x-request-id"]) == 36
    assert [v for n, v in place.requests[0].headers if n == "x-request-id"] == [answer.named["x-request-id"]]


async def test_answers_of_the_gateway_have_a_request_id_too(gateway: Rig) -> None:
    assert (await gateway.ask(headers={"X-Request-ID": "mine-2"})).named["x-request-id"] == "mine-2"
    assert len((await gateway.ask()).named["x-request-id"]) == 36


# --- what passes through ---


async def test_chunks_of_an_event_stream_pass_at_once(gateway: Rig) -> None:
    place = await one_place(gateway)
    client = await gateway.client()
    client.send("/stream")
    for number in range(3):
        place.release.release()
        async with asyncio.timeout(30):
            await client.reader.readuntil(b"data: %d\n" % number)


async def test_a_long_body_passes_both_ways(gateway: Rig) -> None:
    await one_place(gateway)
    body = os.urandom(1 << 19).hex().encode()
    answer = await gateway.ask("/echo", method="POST", body=body)
    assert json.loads(answer.text)["body"].encode() == body


async def test_a_websocket_passes_and_counts_as_a_request_under_way(gateway: Rig) -> None:
    async def shout(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(str(message).upper())

    async with websockets.serve(shout, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await gateway.balancer.apply([route(Server("ws.1", "127.0.0.1", port, ready=True))])
        address = gateway.balancer.address
        async with websockets.connect(
            f"ws://{HOST}:{address.port}/", host=address.host, port=address.port, proxy=None
        ) as client:
            await client.send("hello")
            assert await client.recv() == "HELLO"
            assert await gateway.balancer.in_flight() == {"ws.1": 1}


async def test_http_2_with_prior_knowledge_is_spoken(gateway: Rig) -> None:
    await one_place(gateway)
    client = await gateway.client()
    client.writer.write(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, get_headers())
    )
    status = b""
    async with asyncio.timeout(30):
        while not status:
            length, kind = (
                struct.unpack(">I", b"\0" + (head := await client.reader.readexactly(9))[:3])[0],
                head[3],
            )
            payload = await client.reader.readexactly(length)
            status = payload[:1] if kind == 1 else b""
    assert status == b"\x88"  # the index of `:status: 200` (RFC 7541, appendix A)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def get_headers() -> bytes:
    """GET http / with the host, as literals where the static table has none."""
    host = HOST.encode()
    return b"\x82\x86\x84" + b"\x01" + bytes([len(host)]) + host


# --- dead replicas ---


async def test_a_connection_that_cannot_be_made_is_tried_elsewhere_for_every_method(gateway: Rig) -> None:
    dead, alive = await gateway.place("dead"), await gateway.place("alive")
    await gateway.balancer.apply([route(dead.server(), alive.server())])
    await dead.close()
    answers = [await gateway.ask("/", method=method, body=b"x") for method in ("GET", "POST", "PATCH") * 4]
    assert {(answer.status, answer.text) for answer in answers} == {(200, "alive")}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_a_request_that_was_sent_is_repeated_elsewhere_if_it_may_be(gateway: Rig, method: str) -> None:
    one, two = await gateway.place("one"), await gateway.place("two")
    await gateway.balancer.apply([route(one.server(), two.server())])
    await gateway.ask("/drop", method=method)
    assert one.requests
    assert two.requests


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_request_that_was_sent_is_not_repeated_if_it_must_not_be(gateway: Rig, method: str) -> None:
    one, two = await gateway.place("one"), await gateway.place("two")
    await gateway.balancer.apply([route(one.server(), two.server())])
    answer = await gateway.ask("/drop", method=method, body=b"pay")
    assert (answer.status, len(one.requests) + len(two.requests)) == (502, 1)


async def test_no_get_fails_while_a_replica_dies_under_load(gateway: Rig) -> None:
    one, two = await gateway.place("one"), await gateway.place("two")
    await gateway.balancer.apply([route(one.server(), two.server())])
    answers: list[Answer] = []
    async with asyncio.TaskGroup() as group:
        for client in [await gateway.client() for _ in range(16)]:
            group.create_task(ask_often(client, answers, times=100))
        await eventually(lambda: len(answers) > 400)
        await one.close()
    assert [answer.status for answer in answers] == [200] * 1600
    assert one.requests
    assert two.requests


async def ask_often(client: Client, answers: list[Answer], *, times: int) -> None:
    for _ in range(times):
        answers.append(await client.ask())  # noqa: PERF401 others count them meanwhile


# --- verdicts ---


async def test_a_kept_connection_follows_a_verdict(gateway: Rig) -> None:
    one, two = await gateway.place("one"), await gateway.place("two")
    await gateway.balancer.apply([route(one.server(), two.server(ready=False))])
    client = await gateway.client()
    assert (await client.ask()).text == "one"
    gateway.balancer.set_ready("one", ready=False)
    gateway.balancer.set_ready("two", ready=True)
    await gateway.balancer.in_flight()
    assert [(await client.ask()).text for _ in range(4)] == ["two"] * 4


async def test_no_request_comes_after_an_unready_verdict_under_load(gateway: Rig) -> None:
    one, two = await gateway.place("one"), await gateway.place("two")
    await gateway.balancer.apply([route(one.server(), two.server())])
    answers: list[Answer] = []
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(ask_often(await gateway.client(), answers, times=1_000_000)) for _ in range(8)
        ]
        for place in (one, two) * 10:
            seen = len(answers)
            gateway.balancer.set_ready(place.name, ready=False)
            # What HAProxy had sent before may still be on its way.
            await eventually(lambda: len(answers) > seen + 30)  # noqa: B023
            before = len(place.requests)
            await eventually(lambda: len(answers) > seen + 90)  # noqa: B023
            assert len(place.requests) == before
            gateway.balancer.set_ready(place.name, ready=True)
        for task in tasks:
            task.cancel()
    assert {answer.status for answer in answers} == {200}
