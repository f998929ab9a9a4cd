"""Containers of a real Podman as replicas: their surroundings, their ends, and what outlives what."""

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import images
from kit.podman import Podman

from hale.clock import Clock
from hale.core.deployment import Machine, Template
from hale.core.volume import Mount
from hale.errors import EngineError, EngineUnavailableError, ImageGoneError
from hale.local.engines.container import ContainerEngine
from hale.local.engines.container_processes import first
from hale.ports import Instance
from tests.conformance.engine import exited, found, launch, until
from tests.conformance.engine import template as any_template

pytestmark = pytest.mark.real_time

QUIET = ("sleep", "1000")
STUBBORN = ("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")


def template(*command: str, **fields: object) -> Template:
    return any_template(command, **{"image": "localhost/busybox:1", **fields})  # type: ignore[arg-type]


def made(podman: Podman, folder: Path) -> ContainerEngine:
    return ContainerEngine(folder / "containers", Clock.start(), sockets=[podman.socket])


@pytest.fixture
async def engine(podman: Podman, tmp_path: Path) -> AsyncIterator[ContainerEngine]:
    async with made(podman, tmp_path) as engine:
        yield engine


async def run(engine: ContainerEngine, *command: str, attempt: int = 1, **fields: object) -> Instance:
    return await engine.start(launch(attempt=attempt, made_of=template(*command, **fields)))


async def output(engine: ContainerEngine) -> list[str]:
    return [line.text for line in await engine.log_lines("r1")]


async def said(engine: ContainerEngine, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in await output(engine):
            await asyncio.sleep(0.05)


async def shown(engine: ContainerEngine, *command: str, **fields: object) -> list[str]:
    """All that a command writes to its end."""
    await run(engine, *command, **fields)
    await exited(engine)
    return await output(engine)


def server_id(folder: Path) -> str:
    return (folder / "containers" / "id").read_text()


async def in_podman(podman: Podman, *arguments: str, check: bool = True) -> str:
    return await asyncio.to_thread(podman.run, *arguments, check=check)


async def inspected(podman: Podman, replica_id: str = "r1") -> Any:
    (name,) = podman.containers(f"label=hale.replica={replica_id}")
    return await asyncio.to_thread(podman.inspect, name)


# --- what a container finds around it ---


async def test_it_has_hales_variables_and_the_specs_win(engine: ContainerEngine) -> None:
    env = (("PORT", "80"), ("URL", "http://$HOST:${PORT_8000}/$NOBODY"), ("LATER", "$URL"))
    lines = await shown(engine, "sh", "-c", "echo $PORT $PORT_9000 $HOST; echo $$LATER; echo $$PATH", env=env)
    assert lines == ["80 9000 0.0.0.0", "http://0.0.0.0:8000/$NOBODY", "/bin"]


async def test_a_command_takes_the_place_of_entrypoint_and_arguments(engine: ContainerEngine) -> None:
    assert await shown(engine, "/busybox", "echo", "$PORT", image="localhost/single:1") == ["8000"]


async def test_an_image_runs_without_a_command(engine: ContainerEngine) -> None:
    instance = await run(engine, image="localhost/web:1")
    async with asyncio.timeout(30):
        while not await _answers(instance.address, instance.ports[8000]):
            await asyncio.sleep(0.05)
    assert instance.notes == ()


async def _answers(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_first_port_that_the_image_does_not_expose_is_noted(engine: ContainerEngine) -> None:
    instance = await run(engine, image="localhost/web:1", ports=(7000,))
    assert instance.notes == ("ports: 7000 is not among those that the image exposes (8000)",)


async def test_volumes_are_mounted_read_only_unless_they_are_writable(
    engine: ContainerEngine, tmp_path: Path
) -> None:
    for name in ("fixed", "free"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    mounts = (
        Mount("my-model", str(tmp_path / "fixed"), "/opt/fixed"),
        Mount("scratch", str(tmp_path / "free"), "/opt/free", writable=True),
    )
    script = "cat $HALE_INTEGRATION_MY_MODEL/file; touch /opt/fixed/new || echo refused; touch /opt/free/new"
    lines = await shown(engine, "sh", "-c", script, mounts=mounts)
    assert {"fixed", "refused"} <= set(lines)
    assert (tmp_path / "free/new").exists()
    assert not (tmp_path / "fixed/new").exists()


async def test_limits_of_the_machine_type_are_set_where_there_is_as_much(
    engine: ContainerEngine, podman: Podman
) -> None:
    small = Machine("small", cpus=0.5, memory=64 << 20)
    await run(engine, *QUIET, machine=small)
    limits = (await inspected(podman))["HostConfig"]
    assert (limits["NanoCpus"], limits["Memory"], limits["MemorySwap"]) == (500_000_000, 64 << 20, 64 << 20)
    assert list(engine.notes(template(*QUIET, machine=small))) == []


async def test_limits_beyond_the_machine_are_left_away_and_noted(engine: ContainerEngine) -> None:
    huge = template(*QUIET, machine=Machine("huge", cpus=4096, memory=1 << 50, gpus=8))
    assert (await engine.start(launch(made_of=huge))).running
    assert [note.split(" has ")[1].split(",")[0] for note in engine.notes(huge)] == [
        "4096 CPUs",
        "1048576 GiB of memory",
        "8 GPUs",
    ]


# --- starting ---


async def test_an_image_that_is_gone_is_said_to_be(engine: ContainerEngine) -> None:
    with pytest.raises(ImageGoneError, match="localhost/none:1"):
        await run(engine, *QUIET, image="localhost/none:1")
    assert list(await engine.instances()) == []


async def test_starts_at_once_make_one_network_and_down_removes_it(
    engine: ContainerEngine, podman: Podman
) -> None:
    await asyncio.gather(*(engine.start(launch(f"r{n}", made_of=template(*QUIET))) for n in range(4)))
    names = (await in_podman(podman, "network", "ls", "--format", "{{.Name}}")).split()
    assert names.count("hale") == 1
    await engine.shutdown()
    assert "hale" in await in_podman(podman, "network", "ls", "--format", "{{.Name}}")
    for n in range(4):
        await engine.stop(f"r{n}", grace=0)
        await engine.remove(f"r{n}")
    await engine.shutdown()
    assert "hale" not in (await in_podman(podman, "network", "ls", "--format", "{{.Name}}")).split()


async def test_a_half_made_container_is_made_anew(
    engine: ContainerEngine, podman: Podman, tmp_path: Path
) -> None:
    await _half_made(podman, tmp_path, attempt=1)
    assert (await run(engine, *QUIET)).running
    assert len(podman.containers()) == 1


async def test_a_half_made_container_nobody_asks_for_is_removed(podman: Podman, tmp_path: Path) -> None:
    async with made(podman, tmp_path):
        pass
    await _half_made(podman, tmp_path, attempt=1)
    async with made(podman, tmp_path) as engine:
        assert list(await engine.instances()) == []
        await until(lambda: podman.containers() == [])


async def _half_made(podman: Podman, folder: Path, attempt: int) -> None:
    labels = {"hale.server": server_id(folder), "hale.replica": "r1", "hale.attempt": str(attempt)}
    options = [option for name, value in labels.items() for option in ("--label", f"{name}={value}")]
    await in_podman(podman, "create", "--name", f"hale-web-r1-{attempt}", *options, "localhost/busybox:1")


async def test_one_who_gives_up_waiting_leaves_no_stray(engine: ContainerEngine, podman: Podman) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await run(engine, *QUIET)
    assert (await run(engine, *QUIET)).running
    assert len(podman.containers()) == 1


async def test_the_container_of_an_earlier_attempt_goes_and_its_log_stays(
    engine: ContainerEngine, podman: Podman
) -> None:
    await run(engine, "sh", "-c", "echo first; exit 1")
    await exited(engine)
    await run(engine, "sh", "-c", "echo second; exec sleep 1000", attempt=2)
    await said(engine, "second")
    assert await output(engine) == ["first", "second"]
    assert len(podman.containers()) == 1


async def test_two_hales_at_one_engine_leave_each_other_and_others_alone(
    engine: ContainerEngine, podman: Podman, tmp_path: Path
) -> None:
    await in_podman(podman, "run", "--detach", "--name", "other", "localhost/busybox:1")
    await engine.start(launch("r1", made_of=template(*QUIET)))
    async with made(podman, tmp_path / "second") as second:
        assert list(await second.instances()) == []
        await second.start(launch("r2", made_of=template(*QUIET)))
        await second.stop("r1", grace=0)
        await second.remove("r1")
        await second.stop("r2", grace=0)
        await second.remove("r2")
        await second.shutdown()
    assert (await found(engine)).running
    assert podman.containers() == ["hale-web-r1-1", "other"]


async def test_containers_of_images_made_of_ours_are_not_taken_for_ours(
    engine: ContainerEngine, podman: Podman
) -> None:
    before = await run(engine, *QUIET)
    await in_podman(podman, "commit", "hale-web-r1-1", "localhost/committed:1")
    # With all of our labels.
    await in_podman(podman, "run", "--detach", "--name", "theirs", "localhost/committed:1")
    await asyncio.sleep(1)
    await engine._list()
    assert await found(engine) == before
    await engine.stop("r1", grace=0)
    await engine.remove("r1")
    assert podman.containers() == ["theirs"]


async def test_what_an_image_brings_along_is_as_it_says_but_for_its_own_check(
    engine: ContainerEngine, podman: Podman, tmp_path: Path
) -> None:
    image = images.busybox().with_config(
        Entrypoint=["sh", "-c", "id -un; pwd; touch /data/mine; echo $0 $@; exec sleep 1000"],
        Cmd=["one", "two"],
        User="web",
        WorkingDir="/home/deep",
        Volumes={"/data": {}},
        StopSignal="SIGUSR1",
        Healthcheck={"Test": ["CMD-SHELL", "exit 1"], "Interval": 10**9, "Retries": 1},
    )
    podman.load(image.archive(tmp_path / "image.tar", "localhost/whole:1"))
    await run(engine, image="localhost/whole:1")
    await said(engine, "one two")
    assert await output(engine) == ["web", "/home/deep", "one two"]
    assert (await engine.execute("r1", ["id", "-un"], timeout=60)).output == "web\n"
    assert "unhealthy" not in str((await inspected(podman))["State"])
    assert "CMD-SHELL" not in str((await inspected(podman))["Config"].get("Healthcheck"))
    await engine.stop("r1", grace=60)
    assert (await found(engine)).exit_code == -signal.SIGUSR1
    await engine.remove("r1")
    assert await in_podman(podman, "volume", "ls", "--quiet") == ""


async def test_a_start_that_has_no_room_to_write_says_so(engine: ContainerEngine, tmp_path: Path) -> None:
    (tmp_path / "containers/r1").write_text("in the way")
    with pytest.raises(EngineError, match=r"cannot start replica r1: cannot write in .*: not a directory"):
        await run(engine, *QUIET)


# --- ends ---


async def test_exit_codes_and_signals_are_told_apart(engine: ContainerEngine) -> None:
    await engine.start(launch("r1", made_of=template("sh", "-c", "exit 3")))
    await engine.start(launch("r2", made_of=template("sh", "-c", "kill -USR1 $$$$")))
    ended = [await exited(engine, replica_id) for replica_id in ("r1", "r2")]
    assert [one.exit_code for one in ended] == [3, -signal.SIGUSR1]


async def test_one_that_used_up_its_memory_is_said_to_have(engine: ContainerEngine) -> None:
    hungry = template("sh", "-c", "x=x; while :; do x=$x$x; done", machine=Machine("tiny", memory=16 << 20))
    await engine.start(launch(made_of=hungry))
    ended = await exited(engine)
    assert (ended.exit_code, ended.out_of_memory) == (-signal.SIGKILL, True)


async def test_one_that_was_killed_did_not_use_up_its_memory(engine: ContainerEngine, podman: Podman) -> None:
    await run(engine, *QUIET, machine=Machine("tiny", memory=16 << 20))
    await in_podman(podman, "kill", "hale-web-r1-1")
    ended = await exited(engine)
    assert (ended.exit_code, ended.out_of_memory) == (-signal.SIGKILL, False)


async def test_one_without_a_handler_for_sigterm_ends_at_once_and_a_deaf_one_by_force(
    engine: ContainerEngine,
) -> None:
    await engine.start(launch("r1", made_of=template(*STUBBORN)))
    await said(engine, "deaf")
    await engine.start(launch("r2", made_of=template(*QUIET)))
    async with asyncio.timeout(60):
        await engine.stop("r2", grace=600)
    await engine.stop("r1", grace=0.3)
    codes = [(await found(engine, replica_id)).exit_code for replica_id in ("r1", "r2")]
    assert codes == [-signal.SIGKILL, -signal.SIGTERM]


async def test_an_end_is_told_at_once_and_not_only_when_it_is_looked_for(
    podman: Podman, tmp_path: Path
) -> None:
    seldom = ContainerEngine(tmp_path / "c", Clock.start(), sockets=[podman.socket], look=3600)
    async with seldom as engine:
        heard: list[str] = []
        engine.on_exit(heard.append)
        await run(engine, *QUIET)
        await asyncio.sleep(1)  # past the look that follows the first list
        await in_podman(podman, "kill", "hale-web-r1-1")
        await until(lambda: heard == ["r1"])
        # One that ends before anybody holds it, too.
        await engine.start(launch("r2", made_of=template("true")))
        await until(lambda: heard == ["r1", "r2"])


async def test_one_removed_behind_our_back_has_ended(engine: ContainerEngine, podman: Podman) -> None:
    heard: list[str] = []
    engine.on_exit(heard.append)
    before = await run(engine, *QUIET)
    await asyncio.to_thread(podman.remove, "hale-web-r1-1")
    ended = await exited(engine)
    assert heard == ["r1"]
    # An engine may tell of the end first, and of the removal when all is known already.
    assert ended.removed or ended.exit_code == -signal.SIGKILL
    assert (ended.address, ended.ports) == (before.address, before.ports)
    assert (await run(engine, *QUIET, attempt=2)).running


async def test_one_whose_monitor_is_killed_ends_all_the_same(engine: ContainerEngine, podman: Podman) -> None:
    await run(engine, *QUIET)
    container = (await inspected(podman))["Id"]
    _kill_monitor(container)
    await engine.stop("r1", grace=5)
    _remove_cgroups(container)
    assert not (await found(engine)).running
    assert (await run(engine, *QUIET, attempt=2)).running
    assert podman.containers() == ["hale-web-r1-2"]


async def test_the_end_of_one_whose_monitor_is_killed_is_noticed(
    engine: ContainerEngine, podman: Podman
) -> None:
    heard: list[str] = []
    engine.on_exit(heard.append)
    await run(engine, *QUIET)
    container = (await inspected(podman))["Id"]
    await asyncio.sleep(1)  # it has been seen by then
    _kill_monitor(container)
    assert (await engine.execute("r1", ["echo", "alive"], timeout=60)).output == "alive\n"
    _kill_all(container)
    ended = await exited(engine)
    _remove_cgroups(container)
    assert (heard, ended.exit_code, ended.removed) == (["r1"], None, False)


def _kill_all(container: str) -> None:
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        if container in path.read_text():
            os.kill(int(path.parent.name), signal.SIGKILL)


def _remove_cgroups(container: str) -> None:
    """It is the monitor that has them removed."""
    for group in Path("/sys/fs/cgroup").glob(f"**/libpod-{container}"):
        group.rmdir()


def _kill_monitor(container: str) -> None:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0")
        if b"conmon" in words[0] and container.encode() in words:
            os.kill(int(path.parent.name), signal.SIGKILL)


# --- the engine goes and comes ---


async def test_an_engine_that_comes_later_is_found(podman: Podman, tmp_path: Path) -> None:
    podman.stop()
    async with made(podman, tmp_path) as engine:
        unable = engine.unable(template(*QUIET))
        assert f"no answer from {podman.socket}" in unable
        assert "systemctl enable --now podman.socket" in unable
        assert list(await engine.instances()) == []
        with pytest.raises(EngineUnavailableError, match="cannot reach a container engine"):
            await run(engine, *QUIET)
        # Nothing of theirs can be there: whoever asks both engines is not kept from going on.
        await engine.stop("nobody", grace=0)
        await engine.remove("nobody")
        await asyncio.to_thread(podman.start)
        await until(lambda: engine.unable(template(*QUIET)) == "")
        assert (await run(engine, *QUIET)).running


async def test_replicas_of_before_stand_as_running_while_the_engine_is_away(
    podman: Podman, tmp_path: Path
) -> None:
    async with made(podman, tmp_path) as engine:
        before = await run(engine, *QUIET, env=(("KEY", "not-for-the-disk"),))
        await engine.start(launch("r2", made_of=template(*QUIET)))
        await engine.start(launch("r3", made_of=template("sh", "-c", "exit 3")))
        over = await exited(engine, "r3")
    assert "not-for-the-disk" not in (tmp_path / "containers/r1/1/container.json").read_text()
    podman.stop()
    async with made(podman, tmp_path) as engine:
        heard: list[str] = []
        engine.on_exit(heard.append)
        held = {instance.replica_id: instance for instance in await engine.instances()}
        assert (held["r1"], held["r3"]) == (before, over)
        with pytest.raises(EngineUnavailableError, match="cannot reach a container engine"):
            await engine.execute("r1", ["true"], timeout=60)
        with pytest.raises(EngineUnavailableError, match="cannot reach a container engine"):
            await engine.start(launch("r4", made_of=template(*QUIET)))
        # One ends before the engine is back: Podman's monitors need no service.
        await in_podman(podman, "kill", "hale-web-r2-1")
        assert heard == []
        await asyncio.to_thread(podman.start)
        await until(lambda: heard == ["r2"], within=60)
        assert (await found(engine, "r2")).exit_code == -signal.SIGKILL
        assert (await found(engine, "r1"), await found(engine, "r3")) == (before, over)
        assert (await engine.execute("r1", ["echo", "here"], timeout=60)).output == "here\n"


async def test_one_removed_while_neither_hale_nor_the_engine_was_there_ends_when_the_engine_is_back(
    podman: Podman, tmp_path: Path
) -> None:
    async with made(podman, tmp_path) as engine:
        await run(engine, *QUIET)
    await asyncio.to_thread(podman.remove, "hale-web-r1-1")
    podman.stop()
    async with made(podman, tmp_path) as engine:
        heard: list[str] = []
        engine.on_exit(heard.append)
        assert (await found(engine)).running
        await asyncio.to_thread(podman.start)
        await until(lambda: heard == ["r1"], within=60)
        assert (await found(engine)).removed
        assert (await run(engine, *QUIET, attempt=2)).running


async def test_nothing_is_taken_to_run_on_over_a_start_of_the_machine(podman: Podman, tmp_path: Path) -> None:
    async with made(podman, tmp_path) as engine:
        await run(engine, *QUIET)
    record = tmp_path / "containers/r1/1/container.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "another"}))
    podman.stop()
    async with made(podman, tmp_path) as engine:
        assert not (await found(engine)).running
    await asyncio.to_thread(podman.start)


async def test_a_restart_of_the_engine_changes_nothing_and_ends_are_heard_after_it(
    engine: ContainerEngine, podman: Podman
) -> None:
    heard: list[str] = []
    engine.on_exit(heard.append)
    before = [await engine.start(launch(f"r{n}", made_of=template(*QUIET))) for n in range(2)]
    podman.stop()
    assert list(await engine.instances()) == before
    await asyncio.to_thread(podman.start)
    await in_podman(podman, "kill", "hale-web-r0-1")
    await until(lambda: heard == ["r0"], within=60)
    assert (await found(engine, "r1")) == before[1]


async def test_an_engine_that_went_away_is_to_be_started_again(
    engine: ContainerEngine, podman: Podman, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hale")
    await run(engine, *QUIET)
    podman.stop()
    await until(lambda: engine.unable(template(*QUIET)) != "", within=60)
    hint = f"start the engine again that listens on {podman.socket}"
    await until(lambda: engine.unable(template(*QUIET)).endswith(hint), within=60)
    await asyncio.to_thread(podman.start)
    await until(lambda: "the container engine answers" in caplog.messages, within=60)
    assert engine.unable(template(*QUIET)) == ""
    assert not any("Encoding" in message for message in caplog.messages)


async def test_the_first_process_of_a_container_is_known_by_its_control_group(
    engine: ContainerEngine, podman: Podman
) -> None:
    """The engine's own number for it may be another's here: this Podman counts in a space of its own."""
    await run(engine, "sh", "-c", "sleep 999 & sleep 998 & wait")
    await engine.start(launch("r2", made_of=template(*QUIET)))
    container = (await inspected(podman))["Id"]
    pid = first(container)
    assert pid is not None
    assert b"sleep 999 &" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert container in Path(f"/proc/{pid}/cgroup").read_text()
    await engine.stop("r1", grace=0)
    assert first(container) is None


async def test_a_stop_is_seen_through_though_the_engine_is_restarted(
    engine: ContainerEngine, podman: Podman
) -> None:
    await run(engine, *STUBBORN)
    await said(engine, "deaf")
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(engine.stop("r1", grace=2))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(podman.restart)
        await stopping
    assert (await found(engine)).exit_code == -signal.SIGKILL


async def test_the_next_hale_adopts_what_runs_and_learns_how_the_others_ended(
    podman: Podman, tmp_path: Path
) -> None:
    async with made(podman, tmp_path) as engine:
        runs = await run(engine, *QUIET)
        await engine.start(launch("r2", made_of=template("sh", "-c", "sleep 1; exit 7")))
    async with made(podman, tmp_path) as engine:
        heard: list[str] = []
        engine.on_exit(heard.append)
        assert await found(engine) == runs
        assert (await exited(engine, "r2")).exit_code == 7
        assert (await engine.execute("r1", ["echo", "here"], timeout=60)).output == "here\n"
        await engine.stop("r1", grace=5)
        await until(lambda: "r1" in heard)


# --- logs ---


async def test_a_log_goes_on_over_restarts_of_hale_and_of_the_engine(podman: Podman, tmp_path: Path) -> None:
    script = "n=0; while [ $n -lt 3000 ]; do echo $n; n=$((n+1)); done; printf end; exec sleep 1000"
    for last in ("100", "1000"):
        async with made(podman, tmp_path) as engine:
            await run(engine, "sh", "-c", script)
            async with asyncio.timeout(60):
                while not any(line == last for line in await _all(engine)):
                    await asyncio.sleep(0.02)
    await asyncio.to_thread(podman.restart)
    async with made(podman, tmp_path) as engine:
        async with asyncio.timeout(60):
            while len(await _all(engine)) < 3000:
                await asyncio.sleep(0.05)
        await engine.stop("r1", grace=5)
        assert await _all(engine) == [*(str(number) for number in range(3000)), "end"]


async def _all(engine: ContainerEngine) -> list[str]:
    lines: list[str] = []
    after = (0, -1)
    while found := await engine.log_lines("r1", after=after):
        lines += [line.text for line in found]
        after = (found[-1].attempt, found[-1].position)
    return lines


async def test_long_lines_and_parts_of_lines_are_whole(engine: ContainerEngine) -> None:
    script = "printf %9000s x; sleep 0.3; echo y; sleep 0.3; echo to stderr >&2; sleep 0.3; printf last"
    lines = await shown(engine, "sh", "-c", script)
    assert lines == [" " * 8999 + "xy", "to stderr", "last"]


async def test_a_log_is_shown_and_all_goes_on_though_the_engine_hangs(
    engine: ContainerEngine, podman: Podman
) -> None:
    before = await run(engine, "sh", "-c", "echo here; exec sleep 1000")
    await said(engine, "here")
    with hanging(podman) as go_on:
        async with asyncio.timeout(30):
            assert await output(engine) == ["here"]
        assert list(await engine.instances()) == [before]
        async with asyncio.TaskGroup() as group:
            checking = group.create_task(engine.execute("r1", ["echo", "alive"], timeout=60))
            starting = group.create_task(engine.start(launch("r2", made_of=template(*QUIET))))
            await asyncio.sleep(1)
            go_on()
    assert (checking.result().output, starting.result().running) == ("alive\n", True)


@contextmanager
def hanging(podman: Podman) -> Iterator[Callable[[], None]]:
    """Podman's service is stopped until it is told to go on. Who entered its world for it stops with it."""
    assert podman._service is not None
    entered = Path(f"/proc/{podman._service.pid}/task/{podman._service.pid}/children").read_text()
    service = [podman._service.pid, *map(int, entered.split())]

    def go_on() -> None:
        for pid in service:
            os.kill(pid, signal.SIGCONT)

    os.kill(service[-1], signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


# --- commands ---


async def test_a_command_that_took_too_long_is_gone_with_its_children(engine: ContainerEngine) -> None:
    await run(engine, *QUIET)
    script = "sleep 987 & (sleep 987 & ) & sleep 987"
    result = await engine.execute("r1", ["sh", "-c", script], timeout=1)
    assert result.code is None
    assert (await engine.execute("r1", ["ps"], timeout=60)).output.count("sleep 987") == 0


async def test_a_command_in_an_image_without_a_shell_is_gone_too(engine: ContainerEngine) -> None:
    await run(engine, image="localhost/single:1")
    result = await engine.execute("r1", ["/busybox", "sleep", "988"], timeout=0.5)
    assert result.code is None
    assert "sleep 988" not in (await engine.execute("r1", ["/busybox", "ps"], timeout=60)).output


async def test_the_time_that_an_engine_takes_is_not_on_the_commands(engine: ContainerEngine) -> None:
    await run(engine, *QUIET)
    results = [await engine.execute("r1", ["true"], timeout=0.05) for _ in range(5)]
    assert 0 in [result.code for result in results]  # no engine begins one in that time


@pytest.mark.parametrize("after", [0.004, 0.012, 0.025, 0.1])
async def test_a_command_nobody_waits_for_any_more_is_gone(engine: ContainerEngine, after: float) -> None:
    await run(engine, *QUIET)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after):
            await engine.execute("r1", ["sleep", "986"], timeout=60)
    assert "sleep 986" not in (await engine.execute("r1", ["ps"], timeout=60)).output


async def test_a_programs_own_127_is_its_exit_code(engine: ContainerEngine) -> None:
    await run(engine, *QUIET)
    result = await engine.execute("r1", ["sh", "-c", "no-such-thing"], timeout=60)
    assert result.code == 127
    with pytest.raises(EngineError, match="cannot run no-such-thing: not found in the container"):
        await engine.execute("r1", ["no-such-thing"], timeout=60)


async def test_a_command_writes_both_streams_and_has_the_replicas_variables(engine: ContainerEngine) -> None:
    await run(engine, *QUIET, env=(("GREETING", "hello"),))
    result = await engine.execute("r1", ["sh", "-c", "echo $GREETING $PORT; echo oops >&2"], timeout=60)
    assert sorted(result.output.split("\n")) == ["", "hello 8000", "oops"]


async def test_many_commands_at_once_all_come_to_their_end(engine: ContainerEngine) -> None:
    await run(engine, *QUIET)
    # Those that wait for a place are not out of time for it.
    results = await asyncio.gather(*(engine.execute("r1", ["sleep", "0.1"], timeout=20) for _ in range(40)))
    assert [result.code for result in results] == [0] * 40


# --- the network ---


async def test_the_bridge_keeps_its_address_when_containers_come_and_go(
    engine: ContainerEngine, podman: Podman
) -> None:
    starts = [engine.start(launch(f"r{n}", made_of=template(*QUIET))) for n in range(6)]
    for start in starts:
        await start
    network = json.loads(await in_podman(podman, "network", "inspect", "hale"))[0]
    bridge = network["network_interface"]
    before = _hardware_address(bridge)
    for n in range(5):
        await engine.stop(f"r{n}", grace=0)
        await engine.remove(f"r{n}")
        assert _hardware_address(bridge) == before
    await engine.start(launch("r9", made_of=template(*QUIET)))
    assert _hardware_address(bridge) == before


def _hardware_address(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, 0x8927, struct.pack("16s24s", interface.encode(), b""))
    return answer[18:24].hex(":")
