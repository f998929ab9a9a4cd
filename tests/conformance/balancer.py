"""What every Balancer must do. Subclass BalancerSuite and provide the `traffic` fixture."""

import asyncio
from dataclasses import replace
from typing import Protocol

from hale.ports import Balancer, Route, Server

HOST = "web.localhost"


class Held(Protocol):
    """A request under way: who works on it, and letting it finish with its status."""

    server_id: str

    async def finish(self) -> int: ...


class Traffic(Protocol):
    """Requests to a balancer, and places for them to go to."""

    balancer: Balancer

    async def server(self, server_id: str, *, ready: bool = True) -> Server:
        """A place that answers with its id."""

    async def get(self, host: str, *, password: str | None = None) -> tuple[int, str]:
        """The status and the id of the server that answered, or ""."""

    async def begin(self, host: str) -> Held: ...


def route(*servers: Server, name: str = "web", password: str | None = None) -> Route:
    return Route(f"d-{name}", (f"{name}.localhost", f"d-{name}.localhost"), servers, password)


async def settled(traffic: Traffic) -> None:
    """What was told before is in force: this is answered after it."""
    await traffic.balancer.in_flight()


async def who_answers(traffic: Traffic, host: str = HOST, *, times: int = 6) -> set[str]:
    answers = [await traffic.get(host) for _ in range(times)]
    assert {status for status, _ in answers} == {200}
    return {server_id for _, server_id in answers}


class BalancerSuite:
    async def test_an_unknown_host_is_404(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"))])
        assert await traffic.get("other.localhost") == (404, "")

    async def test_a_deployment_without_servers_is_503(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route()])
        assert await traffic.get(HOST) == (503, "")

    async def test_a_deployment_without_a_ready_server_is_503(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a", ready=False))])
        assert await traffic.get(HOST) == (503, "")

    async def test_ready_servers_get_the_requests(self, traffic: Traffic) -> None:
        servers = [await traffic.server("a"), await traffic.server("b", ready=False)]
        await traffic.balancer.apply([route(*servers)])
        assert await who_answers(traffic) == {"a"}

    async def test_every_host_of_a_deployment_leads_to_it(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"))])
        assert [await traffic.get(host) for host in (HOST, "d-web.localhost")] == [(200, "a"), (200, "a")]

    async def test_hosts_compare_without_case_port_and_trailing_dot(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"))])
        assert await traffic.get("WEB.LocalHost.:8080") == (200, "a")

    async def test_deployments_do_not_share_servers(self, traffic: Traffic) -> None:
        one, two = await traffic.server("a"), await traffic.server("b")
        await traffic.balancer.apply([route(one), route(two, name="api")])
        assert await who_answers(traffic) == {"a"}
        assert await who_answers(traffic, "api.localhost") == {"b"}

    async def test_requests_go_where_the_least_are_under_way(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"), await traffic.server("b"))])
        held = [await traffic.begin(HOST), await traffic.begin(HOST)]
        assert {request.server_id for request in held} == {"a", "b"}
        assert [await request.finish() for request in held] == [200, 200]

    async def test_requests_follow_set_ready(self, traffic: Traffic) -> None:
        await traffic.balancer.apply(
            [route(await traffic.server("a"), await traffic.server("b", ready=False))]
        )
        traffic.balancer.set_ready("a", ready=False)
        traffic.balancer.set_ready("b", ready=True)
        await settled(traffic)
        assert await who_answers(traffic) == {"b"}

    async def test_the_last_server_that_becomes_unready_leaves_503(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"))])
        traffic.balancer.set_ready("a", ready=False)
        await settled(traffic)
        assert await traffic.get(HOST) == (503, "")

    async def test_set_ready_of_an_absent_server_is_not_an_error(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"))])
        traffic.balancer.set_ready("nobody", ready=True)
        assert await who_answers(traffic) == {"a"}

    async def test_apply_overrules_what_set_ready_said(self, traffic: Traffic) -> None:
        server = await traffic.server("a")
        await traffic.balancer.apply([route(server)])
        traffic.balancer.set_ready("a", ready=False)
        await traffic.balancer.apply([route(server)])
        assert await who_answers(traffic) == {"a"}

    async def test_applying_the_same_again_changes_nothing(self, traffic: Traffic) -> None:
        table = [route(await traffic.server("a"), await traffic.server("b"))]
        await traffic.balancer.apply(table)
        await traffic.balancer.apply(table)
        assert await who_answers(traffic) == {"a", "b"}

    async def test_a_deployment_that_left_the_table_is_404(self, traffic: Traffic) -> None:
        one, two = await traffic.server("a"), await traffic.server("b")
        await traffic.balancer.apply([route(one), route(two, name="api")])
        await traffic.balancer.apply([route(two, name="api")])
        assert await traffic.get(HOST) == (404, "")
        assert await who_answers(traffic, "api.localhost") == {"b"}

    async def test_a_deployment_keeps_its_servers_when_its_hosts_change(self, traffic: Traffic) -> None:
        server = await traffic.server("a")
        await traffic.balancer.apply([route(server)])
        await traffic.balancer.apply([replace(route(server), hosts=("new.localhost",))])
        assert await traffic.get(HOST) == (404, "")
        assert await who_answers(traffic, "new.localhost") == {"a"}

    async def test_two_deployments_may_swap_their_hosts(self, traffic: Traffic) -> None:
        one, two = route(await traffic.server("a")), route(await traffic.server("b"), name="api")
        await traffic.balancer.apply([one, two])
        await traffic.balancer.apply([replace(one, hosts=two.hosts), replace(two, hosts=one.hosts)])
        assert await who_answers(traffic) == {"b"}
        assert await who_answers(traffic, "api.localhost") == {"a"}

    async def test_a_request_under_way_outlasts_its_server_in_the_table(self, traffic: Traffic) -> None:
        server, other = await traffic.server("a"), await traffic.server("b")
        await traffic.balancer.apply([route(server)])
        request = await traffic.begin(HOST)
        await traffic.balancer.apply([route(other)])
        assert await who_answers(traffic) == {"b"}
        assert (await traffic.balancer.in_flight())["a"] == 1
        assert await request.finish() == 200

    async def test_a_request_under_way_outlasts_its_deployment(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"))])
        request = await traffic.begin(HOST)
        await traffic.balancer.apply([])
        assert await request.finish() == 200

    async def test_requests_under_way_are_counted_by_server(self, traffic: Traffic) -> None:
        await traffic.balancer.apply(
            [route(await traffic.server("a"), await traffic.server("b", ready=False))]
        )
        request = await traffic.begin(HOST)
        traffic.balancer.set_ready("a", ready=False)
        assert await traffic.balancer.in_flight() == {"a": 1, "b": 0}
        assert await request.finish() == 200

    async def test_the_password_is_asked_for(self, traffic: Traffic) -> None:
        await traffic.balancer.apply([route(await traffic.server("a"), password="s3cret")])
        answers = [await traffic.get(HOST, password=given) for given in (None, "wrong", "s3cret")]
        assert answers == [(401, ""), (401, ""), (200, "a")]

    async def test_the_password_of_one_deployment_does_not_open_another(self, traffic: Traffic) -> None:
        one, two = await traffic.server("a"), await traffic.server("b")
        await traffic.balancer.apply([route(one, password="one"), route(two, name="api", password="two")])
        assert await traffic.get("api.localhost", password="one") == (401, "")

    async def test_a_password_changes_and_goes_with_apply(self, traffic: Traffic) -> None:
        server = await traffic.server("a")
        await traffic.balancer.apply([route(server, password="old")])
        await traffic.balancer.apply([route(server, password="new")])
        assert [await traffic.get(HOST, password=p) for p in ("old", "new")] == [(401, ""), (200, "a")]
        await traffic.balancer.apply([route(server)])
        assert await traffic.get(HOST) == (200, "a")

    async def test_of_many_applies_at_once_the_last_holds(self, traffic: Traffic) -> None:
        servers = [await traffic.server(f"s{n}") for n in range(8)]
        tables = [[route(server) for server in servers[n : n + 1]] for n in range(8)]
        await asyncio.gather(*map(traffic.balancer.apply, tables))
        assert await who_answers(traffic) == {"s7"}
