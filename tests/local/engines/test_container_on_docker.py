"""Containers of a real Docker as replicas: what counts most is as on Podman, and some is Docker's own.

The tests that are only named here are those of test_container, with a Docker in Podman's place.
"""

# ruff: noqa: F811  (fixtures are imported and then asked for by name)

import asyncio
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.docker import Docker
from kit.namespaces import HOST

from hale.local.engines.container import ContainerEngine
from tests.conformance.engine import exited, found, launch, until
from tests.local.engines.test_container import (  # noqa: F401
    QUIET,
    STUBBORN,
    engine,
    made,
    run,
    said,
    shown,
    template,
    test_a_command_nobody_waits_for_any_more_is_gone,
    test_a_command_that_took_too_long_is_gone_with_its_children,
    test_a_half_made_container_is_made_anew,
    test_a_half_made_container_nobody_asks_for_is_removed,
    test_a_programs_own_127_is_its_exit_code,
    test_a_restart_of_the_engine_changes_nothing_and_ends_are_heard_after_it,
    test_a_stop_is_seen_through_though_the_engine_is_restarted,
    test_an_engine_that_comes_later_is_found,
    test_an_image_that_is_gone_is_said_to_be,
    test_exit_codes_and_signals_are_told_apart,
    test_limits_of_the_machine_type_are_set_where_there_is_as_much,
    test_one_removed_behind_our_back_has_ended,
    test_one_removed_while_neither_hale_nor_the_engine_was_there_ends_when_the_engine_is_back,
    test_one_that_used_up_its_memory_is_said_to_have,
    test_one_who_gives_up_waiting_leaves_no_stray,
    test_one_without_a_handler_for_sigterm_ends_at_once_and_a_deaf_one_by_force,
    test_starts_at_once_make_one_network_and_down_removes_it,
    test_the_next_hale_adopts_what_runs_and_learns_how_the_others_ended,
    test_two_hales_at_one_engine_leave_each_other_and_others_alone,
    test_volumes_are_mounted_read_only_unless_they_are_writable,
)
from tests.local.engines.test_container import _all as all_lines

pytestmark = pytest.mark.real_time


@pytest.fixture
def podman(docker: Docker) -> Docker:
    """For the tests of Podman's."""
    return docker


@pytest.fixture
def by_default(docker: Docker) -> Iterator[Docker]:
    """Set up as Docker is by default: its containers end with it."""
    docker.set_up(**{"live-restore": False})
    yield docker
    docker.set_up(**{"live-restore": True})


async def test_lines_are_all_there_after_restarts_of_hale_and_of_the_engine(
    docker: Docker, tmp_path: Path
) -> None:
    script = "n=0; while [ $n -lt 2000 ]; do echo $n; n=$((n+1)); done; echo end; exec sleep 1000"
    async with made(docker, tmp_path) as engine:  # type: ignore[arg-type]
        await run(engine, "sh", "-c", script)
        await said(engine, "100")
    await asyncio.to_thread(docker.restart, gently=True)
    async with made(docker, tmp_path) as engine:  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while (await all_lines(engine))[-1:] != ["end"]:
                await asyncio.sleep(0.05)
        await engine.stop("r1", grace=5)
        assert await all_lines(engine) == [*(str(number) for number in range(2000)), "end"]


@pytest.mark.parametrize("gently", [True, False])
async def test_replicas_end_with_a_docker_that_keeps_none_alive_and_their_ends_are_heard(
    by_default: Docker,
    engine: ContainerEngine,
    *,
    gently: bool,
) -> None:
    heard: list[str] = []
    engine.on_exit(heard.append)
    await run(engine, *QUIET)
    await asyncio.to_thread(by_default.restart, gently=gently)
    await until(lambda: heard == ["r1"] and not engine.unable(template(*QUIET)), within=60)
    assert (await run(engine, *QUIET, attempt=2)).running


async def test_one_whose_shim_is_killed_has_ended(engine: ContainerEngine, docker: Docker) -> None:
    heard: list[str] = []
    engine.on_exit(heard.append)
    await run(engine, *QUIET)
    os.kill(_shim(docker.inspect("hale-web-r1-1")["Id"]), signal.SIGKILL)
    ended = await exited(engine)
    assert (heard, ended.exit_code) == (["r1"], -signal.SIGKILL)
    assert (await run(engine, *QUIET, attempt=2)).running


def _shim(container: str) -> int:
    (found,) = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"containerd-shim" in (words := path.read_bytes().split(b"\0"))[0] and container.encode() in words
    ]
    return found


async def test_the_machine_is_reached_by_the_name_that_docker_desktop_made_known(
    engine: ContainerEngine,
) -> None:
    server = await asyncio.start_server(_greet, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for name in ("host.docker.internal", "host.containers.internal", HOST):
            lines = await shown(engine, "wget", "-q", "-O", "-", f"http://{name}:{port}/")
            assert lines == ["hello"]
            await engine.remove("r1")


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
    await writer.drain()
    writer.close()


async def test_a_docker_without_an_init_ends_replicas_all_the_same(docker: Docker, tmp_path: Path) -> None:
    with docker.without("docker-init"):
        async with made(docker, tmp_path) as engine:  # type: ignore[arg-type]
            await engine.start(launch(made_of=template(*STUBBORN)))
            await said(engine, "deaf")
            assert not docker.inspect("hale-web-r1-1")["HostConfig"].get("Init")
            await engine.stop("r1", grace=0.3)
            assert (await found(engine)).exit_code == -signal.SIGKILL


@pytest.mark.parametrize("attempt", range(1, 6))
async def test_one_that_is_stopped_at_once_hears_of_it(engine: ContainerEngine, attempt: int) -> None:
    await run(engine, *QUIET, attempt=attempt)
    async with asyncio.timeout(60):
        await engine.stop("r1", grace=600)
    assert (await found(engine)).exit_code == -signal.SIGTERM


async def test_the_bridge_keeps_its_address_when_containers_come_and_go(
    engine: ContainerEngine,
    docker: Docker,
) -> None:
    for n in range(4):
        await engine.start(launch(f"r{n}", made_of=template(*QUIET)))
    bridge = f"br-{docker.run('network', 'inspect', '--format', '{{.Id}}', 'hale')[:12]}"
    before = _hardware_address(bridge)
    for n in range(4):
        await engine.stop(f"r{n}", grace=0)
        await engine.remove(f"r{n}")
        assert _hardware_address(bridge) == before


def _hardware_address(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, 0x8927, struct.pack("16s24s", interface.encode(), b""))
    return answer[18:24].hex(":")
