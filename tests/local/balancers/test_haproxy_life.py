"""Starts, ends, crashes, reloads and adoptions of a real HAProxy."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from kit.processes import end_all, processes_of, running
from local.balancers.rig import BINARY, LOOPBACK, Answer, Client, Place, Rig, eventually, rig

from hale.clock import Clock
from hale.errors import BalancerError
from hale.local.balancers.haproxy import HaproxyBalancer
from hale.ports import Route, Server
from hale.settings import Address

pytestmark = pytest.mark.real_time


def route(*servers: Server, name: str = "web") -> Route:
    return Route(f"d-{name}", (f"{name}.localhost",), servers)


async def served(gateway: Rig, *names: str) -> list[Place]:
    """A deployment of which every named place is a ready server."""
    places = [await gateway.place(name) for name in names]
    await gateway.balancer.apply([route(*(place.server() for place in places))])
    return places


def others(count: int, server: Server) -> list[Route]:
    return [
        route(Server(f"o{n}.1", server.address, server.port, ready=True), name=f"o{n}") for n in range(count)
    ]


def pids(gateway: Rig) -> dict[str, int]:
    """Master and worker, told apart by who is whose parent."""
    found = set(processes_of(gateway.folder))
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in found}
    (master,) = {parent for parent in parents.values() if parent in found}
    return {"master": master, "worker": max(found - {master})}


async def keep_asking(client: Client, answers: list[Answer], stop: asyncio.Event) -> None:
    """As a browser does: on the connection it has, and on another one once that was closed in good order."""
    while not stop.is_set():
        answer = await client.ask()
        answers.append(answer)
        if answer.named.get("connection") == "close":
            address = client.writer.get_extra_info("peername")
            client.close()
            client = await Client.open(Address(*address))
    client.close()


# --- start and stop ---


async def test_a_port_in_use_is_told_before_anything_is_changed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
        with pytest.raises(
            BalancerError, match=rf"^cannot listen on {address}: Address already in use"
        ) as caught:
            async with HaproxyBalancer(tmp_path / "gateway", address, Clock.start()):
                raise AssertionError("it listens")
        assert "--gateway" in caught.value.hint
    assert list((tmp_path / "gateway").iterdir()) == []


async def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BalancerError, match=r"^cannot listen on 192\.0\.2\.1:8080: "):
        async with HaproxyBalancer(tmp_path, Address("192.0.2.1", 8080), Clock.start()):
            raise AssertionError("it listens")


async def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BalancerError, match=r"^cannot keep the gateway's files in .*: Not a directory"):
        async with HaproxyBalancer(tmp_path / "file" / "gateway", LOOPBACK, Clock.start()):
            raise AssertionError("it listens")


async def test_a_binary_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(BalancerError, match=r"^cannot start the gateway: it ended at once") as caught:
        async with HaproxyBalancer(tmp_path, LOOPBACK, Clock.start(), binary=Path("/bin/false")):
            raise AssertionError("it runs")
    assert str(tmp_path / "haproxy.log") in caught.value.hint


async def test_stop_ends_every_process_and_gives_the_port_back(gateway: Rig) -> None:
    await served(gateway, "a")
    address = gateway.balancer.address
    await gateway.balancer.stop()
    assert processes_of(gateway.folder) == {}
    with socket.create_server((address.host, address.port)):
        pass


async def test_a_stopped_gateway_is_not_started_again(gateway: Rig) -> None:
    events: list[str] = []
    gateway.balancer.on_event(lambda event: events.append(event.type))
    await gateway.balancer.stop()
    await asyncio.sleep(0.2)
    assert (events, processes_of(gateway.folder)) == ([], {})


async def test_a_folder_may_lie_deeper_than_a_socket_address_reaches(tmp_path: Path) -> None:
    async with rig(tmp_path / ("deep" * 30) / ("deeper" * 20)) as gateway:
        await served(gateway, "a")
        assert await gateway.get("web.localhost") == (200, "a")


async def test_a_port_that_the_system_chose_stays_the_same_over_restarts(tmp_path: Path) -> None:
    async with rig(tmp_path / "gateway") as gateway:
        before = gateway.balancer.address
    async with rig(tmp_path / "gateway") as gateway:
        assert gateway.balancer.address == before


async def test_until_the_first_table_known_hosts_are_503_and_unknown_ones_404(tmp_path: Path) -> None:
    async with rig(tmp_path / "gateway") as gateway:
        await served(gateway, "a")
    async with rig(tmp_path / "gateway") as gateway:
        assert await gateway.get("web.localhost") == (503, "")
        assert await gateway.get("other.localhost") == (404, "")


@pytest.mark.parametrize("name", ["haproxy.cfg", "hosts.map", "keys.map", "port"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00 slot-1\n" * 3, b"web.localhost slot-99999999\n"])
async def test_a_file_that_a_power_cut_spoilt_does_not_keep_it_from_starting(
    tmp_path: Path, name: str, content: bytes
) -> None:
    async with rig(tmp_path / "gateway") as gateway:
        await served(gateway, "a")
    (tmp_path / "gateway" / name).write_bytes(content)
    async with rig(tmp_path / "gateway") as gateway:
        await served(gateway, "a")
        assert await gateway.get("web.localhost") == (200, "a")


async def test_a_gateway_is_back_where_nothing_can_be_written(gateway: Rig) -> None:
    await served(gateway, "one", "two")
    gateway.balancer.set_ready("one", ready=False)

    def refuse(name: str, text: str) -> None:
        raise BalancerError(f"cannot write {name}: No space left on device")

    gateway.balancer._plane._write = refuse
    os.kill(pids(gateway)["worker"], signal.SIGKILL)
    await eventually(lambda: who_answers_to(gateway, {"two"}))


async def who_answers_to(gateway: Rig, names: set[str]) -> bool:
    try:
        return {(await gateway.ask()).text for _ in range(4)} == names
    except (OSError, asyncio.IncompleteReadError):
        return False


async def test_the_log_stays_bounded(gateway: Rig) -> None:
    log = gateway.folder / "haproxy.log"
    with log.open("a") as file:
        file.write("x" * (3 << 20))
    await gateway.balancer.apply([route()])
    assert log.stat().st_size < 1 << 20
    assert (gateway.folder / "haproxy.log.1").stat().st_size == 1 << 20


# --- reloads ---


async def test_a_new_deployment_needs_no_reload_while_slots_are_in_stock(gateway: Rig) -> None:
    (place,) = await served(gateway, "a")
    before = pids(gateway)
    await gateway.balancer.apply([route(place.server()), *others(7, place.server())])
    await gateway.balancer.apply([])
    await wait_until_held(gateway, [])
    await gateway.balancer.apply([])
    await gateway.balancer.apply(others(8, place.server()))
    assert pids(gateway) == before


async def test_twenty_deployments_at_once_are_one_reload(gateway: Rig) -> None:
    (place,) = await served(gateway, "a")
    tables = [others(n, place.server()) for n in range(21)]
    await asyncio.gather(*map(gateway.balancer.apply, tables))
    assert await gateway.get("o19.localhost") == (200, "a")
    assert (gateway.folder / "haproxy.log").read_text().count("Reloading HAProxy") == 1


async def test_a_reload_loses_no_request_and_sends_none_to_an_unready_server(gateway: Rig) -> None:
    one, two = await served(gateway, "one", "two")
    table = [route(one.server(), two.server())]
    answers: list[Answer] = []
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for client in [await gateway.client() for _ in range(12)]:
            group.create_task(keep_asking(client, answers, stop))
        for count in (10, 20, 40):
            await gateway.balancer.apply([*table, *others(count, two.server())])
            seen = len(answers)
            gateway.balancer.set_ready("one", ready=False)
            await eventually(lambda: len(answers) > seen + 100)  # noqa: B023
            before = len(one.requests)
            await eventually(lambda: len(answers) > seen + 300)  # noqa: B023
            assert len(one.requests) == before
            gateway.balancer.set_ready("one", ready=True)
            await eventually(lambda: len(one.requests) > before)  # noqa: B023
        stop.set()
    assert {answer.status for answer in answers} == {200}
    assert (gateway.folder / "haproxy.log").read_text().count("Reloading HAProxy") == 3


async def test_a_connection_kept_over_a_reload_follows_the_table_of_today(gateway: Rig) -> None:
    one, two = await served(gateway, "one", "two")
    kept = [await gateway.client() for _ in range(4)]
    assert {(await client.ask()).status for client in kept} == {200}
    await gateway.balancer.apply([route(two.server()), *others(20, two.server())])
    before = len(one.requests)
    answers = [await client.ask("/echo", headers={"X-Request-ID": "kept"}) for client in kept]
    assert [answer.status for answer in answers] == [200] * 4
    assert len(one.requests) == before
    headers = two.requests[-1].headers
    assert [value for name, value in headers if name in ("x-forwarded-for", "x-request-id")] == [
        "kept",
        "127.0.0.1",
    ]


async def test_a_request_under_way_over_a_reload_is_finished_and_counted(gateway: Rig) -> None:
    one, two = await served(gateway, "one", "two")
    gateway.balancer.set_ready("two", ready=False)
    await gateway.balancer.in_flight()
    request = await gateway.hold()
    await gateway.balancer.apply([route(one.server(), two.server()), *others(20, two.server())])
    assert (await gateway.balancer.in_flight())["one"] == 1
    assert await request.finish() == 200
    request.client.close()

    await eventually(lambda: gateway.idle("one"))


async def test_the_replaced_worker_ends_when_its_connections_have(gateway: Rig) -> None:
    (place,) = await served(gateway, "a")
    request = await gateway.hold()
    await gateway.balancer.apply([route(place.server()), *others(20, place.server())])
    assert len(processes_of(gateway.folder)) == 3
    assert await request.finish() == 200
    request.client.close()
    await eventually(lambda: len(processes_of(gateway.folder)) == 2)


async def test_a_reload_that_haproxy_refuses_changes_nothing(gateway: Rig) -> None:
    (place,) = await served(gateway, "a")
    plane, before = gateway.balancer._plane, pids(gateway)
    assert plane.gateway is not None
    with pytest.raises(BalancerError, match=r"^cannot reload the gateway: .*nbthread"):
        await plane.reload(replace(plane.gateway, threads=-1), gateway.balancer._want)
    assert await gateway.get("web.localhost") == (200, "a")
    await gateway.balancer.apply([route(place.server()), route(place.server(), name="api")])
    assert await gateway.get("api.localhost") == (200, "a")
    assert pids(gateway) == before
    async with HaproxyBalancer(gateway.folder, LOOPBACK, Clock.start(), binary=BINARY, stock=8):
        assert pids(gateway) == before


# --- crashes ---


@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_a_killed_haproxy_is_back_with_the_same_table(gateway: Rig, victim: str) -> None:
    events: list[str] = []
    gateway.balancer.on_event(lambda event: events.append(event.type))
    await served(gateway, "one", "two")
    gateway.balancer.set_ready("one", ready=False)
    address, before = gateway.balancer.address, pids(gateway)
    os.kill(before[victim], signal.SIGKILL)
    await eventually(lambda: "gateway.back" in events)
    assert events == ["gateway.ended", "gateway.back"]
    assert gateway.balancer.address == address
    assert [await gateway.get("web.localhost") for _ in range(4)] == [(200, "two")] * 4
    await eventually(lambda: not any(map(running, before.values())))


async def test_what_is_told_while_it_is_down_holds_when_it_is_back(gateway: Rig) -> None:
    one, two = await served(gateway, "one", "two")
    os.kill(pids(gateway)["worker"], signal.SIGKILL)
    gateway.balancer.set_ready("one", ready=False)
    await gateway.balancer.apply(
        [route(one.server(ready=False), two.server()), route(one.server(), name="api")]
    )
    assert [await gateway.get("web.localhost") for _ in range(4)] == [(200, "two")] * 4
    assert await gateway.get("api.localhost") == (200, "one")


async def test_a_gateway_that_cannot_come_back_is_told_once_and_tried_again(gateway: Rig) -> None:
    events: list[tuple[str, str]] = []
    gateway.balancer.on_event(lambda event: events.append((event.type, event.message)))
    await served(gateway, "a")
    address = gateway.balancer.address
    taken = await take_port_of_the_dead(gateway, address)
    with taken:
        await eventually(lambda: len(events) > 1)
        await asyncio.sleep(0.5)
        assert [kind for kind, _ in events] == ["gateway.ended", "gateway.failed"]
        assert f"cannot listen on {address}" in events[1][1]
    await eventually(lambda: events[-1][0] == "gateway.back")
    assert await gateway.get("web.localhost") == (200, "a")


async def take_port_of_the_dead(gateway: Rig, address: Address) -> socket.socket:
    """Kill HAProxy and listen on its port before anybody on this loop can act."""
    for pid in sorted(pids(gateway).values()):
        os.kill(pid, signal.SIGKILL)
    while True:
        try:
            return socket.create_server((address.host, address.port))
        except OSError:
            continue


async def test_a_lost_command_is_mended(gateway: Rig) -> None:
    await served(gateway, "one", "two")
    assert gateway.balancer._runtime is not None
    gateway.balancer._runtime.tell("set server slot-1/one state maint")
    gateway.balancer.set_ready("two", ready=True)
    gateway.balancer._runtime.tell("set server slot-1/nobody state maint")  # answered with an error
    answers: set[str] = set()
    async with asyncio.timeout(30):
        while answers != {"one", "two"}:
            answers = {(await gateway.ask()).text for _ in range(4)}


async def test_a_closed_runtime_connection_is_opened_again(gateway: Rig) -> None:
    await served(gateway, "one", "two")
    assert gateway.balancer._runtime is not None
    gateway.balancer._runtime._lost("for a test")
    gateway.balancer.set_ready("one", ready=False)
    async with asyncio.timeout(30):
        while {(await gateway.ask()).text for _ in range(4)} != {"two"}:
            pass


# --- the next daemon ---


async def test_the_next_daemon_finds_the_same_processes_and_table(gateway: Rig) -> None:
    one, two = await served(gateway, "one", "two")
    before = pids(gateway)
    async with HaproxyBalancer(gateway.folder, LOOPBACK, Clock.start(), binary=BINARY, stock=8) as adopted:
        assert adopted.address == gateway.balancer.address
        assert {(await gateway.ask()).text for _ in range(4)} == {"one", "two"}
        await adopted.apply([route(one.server(), two.server(ready=False))])
        assert {(await gateway.ask()).text for _ in range(4)} == {"one"}
        adopted.set_ready("two", ready=True)
        await adopted.in_flight()
        assert {(await gateway.ask()).text for _ in range(4)} == {"one", "two"}
    assert pids(gateway) == before


DAEMON = """
import asyncio, sys
from pathlib import Path
from hale.clock import Clock
from hale.local.balancers.haproxy import HaproxyBalancer
from hale.ports import Route, Server
from hale.settings import Address

async def serve(folder, port):
    async with HaproxyBalancer(Path(folder), Address("127.0.0.1", 0), Clock.start(), stock=8) as balancer:
        await balancer.apply([Route("d", ("web.localhost",), (Server("a", "127.0.0.1", int(port), True),))])
        print(balancer.address.port, flush=True)
        await asyncio.sleep(3600)

asyncio.run(serve(*sys.argv[1:]))
"""


async def test_a_killed_daemon_costs_no_request_and_the_next_one_adopts(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    place = Place("a")
    await place.open()
    answers: list[Answer] = []
    stop = asyncio.Event()
    try:
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DAEMON, str(folder), str(place.port), stdout=asyncio.subprocess.PIPE
        )
        assert daemon.stdout is not None
        address = Address("127.0.0.1", int(await daemon.stdout.readline()))
        async with asyncio.TaskGroup() as group:
            for client in [await Client.open(address) for _ in range(4)]:
                group.create_task(keep_asking(client, answers, stop))
            await eventually(lambda: len(answers) > 50)
            daemon.kill()
            await daemon.wait()
            seen, found = len(answers), set(processes_of(folder))
            await eventually(lambda: len(answers) > seen + 50)
            async with HaproxyBalancer(folder, LOOPBACK, Clock.start(), stock=8) as adopted:
                assert (adopted.address, set(processes_of(folder))) == (address, found)
                seen = len(answers)
                await eventually(lambda: len(answers) > seen + 50)
            stop.set()
        assert {(answer.status, answer.text) for answer in answers} == {(200, "a")}
    finally:
        end_all(folder)
        await place.close()


async def test_leaving_it_lets_it_run(tmp_path: Path) -> None:
    async with rig(tmp_path / "gateway") as gateway:
        await served(gateway, "a")
        second = HaproxyBalancer(gateway.folder, LOOPBACK, Clock.start(), binary=BINARY, stock=8)
        async with second:
            pass
        assert await gateway.get("web.localhost") == (200, "a")


async def test_the_next_daemon_watches_over_what_it_found(gateway: Rig) -> None:
    await served(gateway, "a")
    events: list[str] = []
    async with HaproxyBalancer(gateway.folder, LOOPBACK, Clock.start(), binary=BINARY, stock=8) as adopted:
        adopted.on_event(lambda event: events.append(event.type))
        gateway.balancer._end_tasks()  # the first daemon is gone
        os.kill(pids(gateway)["worker"], signal.SIGKILL)
        await eventually(lambda: "gateway.back" in events)
        assert await gateway.get("web.localhost") == (200, "a")


async def test_the_next_daemon_may_listen_elsewhere(gateway: Rig) -> None:
    await served(gateway, "a")
    free = socket.create_server(("127.0.0.1", 0))
    elsewhere = Address(*free.getsockname())
    free.close()
    master = pids(gateway)["master"]
    async with HaproxyBalancer(gateway.folder, elsewhere, Clock.start(), binary=BINARY, stock=8) as adopted:
        assert adopted.address == elsewhere
        client = await Client.open(elsewhere)
        assert (await client.ask()).text == "a"
        client.close()
        assert pids(gateway)["master"] == master


async def test_the_next_daemon_that_cannot_listen_leaves_everything_as_it_is(gateway: Rig) -> None:
    await served(gateway, "a")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BalancerError, match="cannot listen on"),
    ):
        async with HaproxyBalancer(
            gateway.folder, Address(*taken.getsockname()), Clock.start(), binary=BINARY, stock=8
        ):
            raise AssertionError("it listens")
    assert await gateway.get("web.localhost") == (200, "a")


async def test_a_worker_that_does_not_even_end_gives_the_port_back(gateway: Rig) -> None:
    await served(gateway, "a")
    before, address = pids(gateway), gateway.balancer.address
    os.kill(before["worker"], signal.SIGSTOP)
    os.kill(before["master"], signal.SIGKILL)
    await eventually(lambda: pids_changed(gateway, before["master"]))
    assert gateway.balancer.address == address
    await eventually(lambda: who_answers_to(gateway, {"a"}))
    assert not running(before["worker"])


def pids_changed(gateway: Rig, master: int) -> bool:
    return len(processes_of(gateway.folder)) > 1 and master not in processes_of(gateway.folder)


async def test_a_worker_without_its_master_is_replaced_by_the_next_daemon(gateway: Rig) -> None:
    await served(gateway, "a")
    address, before = gateway.balancer.address, pids(gateway)
    gateway.balancer._end_tasks()  # nobody watches
    await asyncio.sleep(0)
    os.kill(before["master"], signal.SIGKILL)
    async with HaproxyBalancer(gateway.folder, LOOPBACK, Clock.start(), binary=BINARY, stock=8) as adopted:
        assert adopted.address == address
        assert await gateway.get("web.localhost") == (503, "")
        assert pids(gateway)["master"] != before["master"]
        await eventually(lambda: not running(before["worker"]))
        await adopted.stop()


# --- many servers ---


async def test_two_hundred_servers_come_and_go_and_leave_nothing(gateway: Rig) -> None:
    place = await gateway.place("a")
    for attempt in range(3):
        names = [f"r{n}.{attempt}" for n in range(200)]
        await gateway.balancer.apply(
            [route(*(Server(n, "127.0.0.1", place.port, ready=True) for n in names))]
        )
        assert (await gateway.ask()).status == 200
        held = await gateway.balancer.in_flight()
        assert set(names) <= set(held)
    await gateway.balancer.apply([route()])
    await wait_until_held(gateway, [])
    assert len(processes_of(gateway.folder)) == 2


async def test_a_server_that_is_still_busy_is_deleted_when_it_is_done(gateway: Rig) -> None:
    (place,) = await served(gateway, "a")
    request = await gateway.hold()
    await gateway.balancer.apply([route()])
    assert await gateway.balancer.in_flight() == {"a": 1}
    assert await request.finish() == 200
    request.client.close()
    await wait_until_held(gateway, [])
    assert place.requests


async def wait_until_held(gateway: Rig, servers: Sequence[str]) -> None:
    async def held() -> bool:
        return list(await gateway.balancer.in_flight()) == list(servers)

    await eventually(held)
