"""Log lines of several replicas in one order, page by page, none lost and none twice."""

from typing import Any

import pytest

from hale.core.replica import Phase, Replica
from hale.ports import LogLine
from tests.api.conftest import EPOCH, Api
from tests.api.openapi import assert_answers


def line(replica_id: str, at: float, text: str, *, attempt: int = 1, position: int = 0) -> LogLine:
    return LogLine(replica_id, attempt, EPOCH + at, position, text)


async def deployed(api: Api, lines: dict[str, list[LogLine]]) -> str:
    deployment_id = await api.apply()
    for replica_id in lines:
        await api.store.put_replicas([(Replica(replica_id, deployment_id, 1, "key", EPOCH, Phase.READY), {})])
    api.platform.lines.update(lines)
    return f"/v1/deployments/{deployment_id}/logs"


def texts(page: Any) -> list[str]:
    return [item["message"] for item in page["items"]]


async def every_page(api: Api, path: str, **query: object) -> list[str]:
    found: list[str] = []
    while True:
        page = await api.get(path, **query)
        assert_answers("GET /deployments/{id}/logs", page)
        found += texts(page)
        if not page["hasMore"]:
            return found
        query["after"] = page["nextPage"]


TWO = {
    "r1": [line("r1", n, f"one {n}", position=n * 10) for n in range(0, 10, 2)],
    "r2": [line("r2", n, f"two {n}", position=n * 10) for n in range(1, 10, 2)],
}


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 120])
async def test_lines_of_all_replicas_are_merged_by_time(api: Api, limit: int) -> None:
    path = await deployed(api, TWO)
    merged = [f"{'two' if n % 2 else 'one'} {n}" for n in range(10)]
    assert await every_page(api, path, order="asc", limit=limit) == merged
    assert await every_page(api, path, limit=limit) == merged[::-1]


async def test_a_line_is_what_the_schema_says(api: Api) -> None:
    path = await deployed(api, {"r1": [line("r1", 1.0, "hello \N{ROCKET}", attempt=2, position=77)]})
    page = await api.get(path)
    deployment_id = path.split("/")[3]
    assert page["items"] == [
        {
            "id": "r1.2.77",
            "jobId": deployment_id,
            "message": "hello \N{ROCKET}",
            "uuid": None,
            "dtCreated": "2023-11-14T22:13:21.000Z",
            "instanceId": "r1",
        }
    ]


async def test_one_instance_can_be_asked_for_alone(api: Api) -> None:
    path = await deployed(api, TWO)
    assert texts(await api.get(path, instanceId="r2", order="asc")) == [f"two {n}" for n in range(1, 10, 2)]
    assert (await api.refused("GET", path, instanceId="nobody")).code == "NOT_FOUND"


async def test_following_goes_on_after_the_last_line_of_each_instance(api: Api) -> None:
    path = await deployed(api, TWO)
    api.platform.lines["r1"] = [*TWO["r1"], line("r1", 3.5, "late", position=900)]
    assert texts(await api.get(path, order="asc", after="r1.1.80,r2.1.90")) == ["late"]


async def test_a_replica_that_is_not_in_the_cursor_is_read_from_its_first_line(api: Api) -> None:
    path = await deployed(api, TWO)
    assert texts(await api.get(path, order="asc", after="r1.1.80")) == [f"two {n}" for n in range(1, 10, 2)]


async def test_attempts_of_a_replica_follow_each_other_whatever_the_clock_says(api: Api) -> None:
    lines = [
        line("r1", 9.0, "first", attempt=1, position=500),
        line("r1", 2.0, "second", attempt=2, position=0),
    ]
    path = await deployed(api, {"r1": lines})
    assert await every_page(api, path, order="asc", limit=1) == ["first", "second"]
    assert await every_page(api, path, limit=1) == ["second", "first"]


async def test_the_end_of_a_long_log_comes_first(api: Api) -> None:
    path = await deployed(api, {"r1": [line("r1", n, f"{n}", position=n) for n in range(3500)]})
    page = await api.get(path, limit=3)
    assert texts(page) == ["3499", "3498", "3497"]
    assert texts(await api.get(path, limit=2, after=page["nextPage"])) == ["3496", "3495"]


async def test_a_replica_without_lines_is_no_trouble(api: Api) -> None:
    path = await deployed(api, {"r1": []})
    assert await api.get(path) == {"items": [], "hasMore": False}


@pytest.mark.parametrize("after", ["x", "r1", "r1.1", "r1.a.b", "r1.1.-1", ",", "r1.1.1,", "\N{ROCKET}"])
async def test_a_wrong_cursor_is_refused(api: Api, after: str) -> None:
    path = await deployed(api, TWO)
    assert (await api.refused("GET", path, after=after)).code == "BAD_REQUEST"
