"""Every Engine passes the one suite."""

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from kit.docker import Docker
from kit.podman import Podman

from hale.clock import Clock
from hale.core.deployment import Template
from hale.errors import EngineError, EngineUnavailableError
from hale.local.engines.container import ContainerEngine
from hale.local.engines.process import ProcessEngine
from hale.memory.engine import MemoryEngine
from hale.ports import Engine, ExecResult, Instance, Launch
from tests.conformance.engine import EngineSuite, found, launch, until


class MemoryRig:
    def __init__(self) -> None:
        self.engine = MemoryEngine(Clock.start())
        self.engine.refusals[self.missing()] = "not found"
        self.engine.execution = self._execute

    async def end(self, replica_id: str) -> int:
        self.engine.exit(replica_id, 5)
        return 5

    async def say(self, replica_id: str, *lines: str) -> None:
        for line in lines:
            self.engine.write(replica_id, line)

    def command(self, output: str, *, code: int = 0, seconds: float = 0) -> Sequence[str]:
        return [output, str(code), str(seconds)]

    def missing(self) -> str:
        return "no-such-command"

    async def _execute(self, replica_id: str, command: Sequence[str]) -> ExecResult:
        if command[0] == self.missing():
            raise EngineError(f"cannot run {command[0]}: not found")
        output, code, seconds = command
        await asyncio.sleep(float(seconds))
        return ExecResult(int(code), output)


class TestMemoryEngine(EngineSuite):
    @pytest.fixture
    async def rig(self) -> MemoryRig:
        return MemoryRig()

    async def test_a_stubborn_replica_takes_its_whole_grace(self) -> None:
        engine, loop = MemoryEngine(Clock.start()), asyncio.get_running_loop()
        await engine.start(launch())
        engine.stubborn.add("r1")
        await engine.stop("r1", grace=30)
        assert (loop.time(), (await found(engine)).exit_code) == (30, -9)

    async def test_an_engine_that_does_not_answer_says_so(self) -> None:
        engine = MemoryEngine(Clock.start())
        engine.failure = "cannot reach it"
        with pytest.raises(EngineUnavailableError, match="cannot reach it"):
            await engine.instances()


def _append(pid: int | None, text: str) -> None:
    """To the very file that the process writes to."""
    with Path(f"/proc/{pid}/fd/1").open("a") as file:
        file.write(text)


@dataclass(frozen=True, slots=True)
class ProcessRig:
    engine: Engine

    async def end(self, replica_id: str) -> int:
        os.kill((await found(self.engine, replica_id)).pid or 0, signal.SIGKILL)
        return -signal.SIGKILL

    async def say(self, replica_id: str, *lines: str) -> None:
        _append((await found(self.engine, replica_id)).pid, "".join(f"{line}\n" for line in lines))

    def command(self, output: str, *, code: int = 0, seconds: float = 0) -> Sequence[str]:
        return ["sh", "-c", f"printf %s {shlex.quote(output)}; sleep {seconds}; exit {code}"]

    def missing(self) -> str:
        return "no-such-command"


@pytest.mark.real_time
class TestProcessEngine(EngineSuite):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ProcessRig]:
        async with ProcessEngine(tmp_path / "replicas", Clock.start(), ignore_images=False) as engine:
            try:
                yield ProcessRig(engine)
            finally:
                for instance in await engine.instances():
                    await engine.stop(instance.replica_id, grace=0)
                await engine.shutdown()


class _InBusybox:
    """The suite's templates name no image: what they run is run in this one."""

    def __init__(self, engine: ContainerEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def unable(self, template: Template) -> str:
        return self._engine.unable(_imaged(template))

    async def start(self, wanted: Launch) -> Instance:
        return await self._engine.start(replace(wanted, template=_imaged(wanted.template)))


def _imaged(template: Template) -> Template:
    return replace(template, image="localhost/busybox:1") if template.command else template


@dataclass(frozen=True, slots=True)
class ContainerRig:
    engine: Engine
    place: Podman | Docker

    async def end(self, replica_id: str) -> int:
        await self._run(replica_id, "kill -KILL -1")
        return -signal.SIGKILL

    async def say(self, replica_id: str, *lines: str) -> None:
        written = await asyncio.to_thread(self.place.log_of, self._container(replica_id))
        wanted = written.read_bytes().count(b"\n") + len(lines)
        await self._run(replica_id, "printf '%s\n' \"$@\" >/proc/1/fd/1", *lines)
        await until(lambda: written.read_bytes().count(b"\n") >= wanted)

    def command(self, output: str, *, code: int = 0, seconds: float = 0) -> Sequence[str]:
        return ["sh", "-c", f"printf %s {shlex.quote(output)}; sleep {seconds}; exit {code}"]

    def missing(self) -> str:
        return "no-such-command"

    async def _run(self, replica_id: str, script: str, *arguments: str) -> None:
        name = self._container(replica_id)
        await asyncio.to_thread(
            self.place.run, "exec", name, "sh", "-c", script, "sh", *arguments, check=False
        )

    def _container(self, replica_id: str) -> str:
        (name,) = self.place.containers(f"label=hale.replica={replica_id}")
        return name


@pytest.mark.real_time
class TestContainerEngine(EngineSuite):
    variables_that_give_way = ()

    @pytest.fixture
    async def rig(self, podman: Podman, tmp_path: Path) -> AsyncIterator[ContainerRig]:
        async with ContainerEngine(tmp_path / "containers", Clock.start(), sockets=[podman.socket]) as engine:
            yield ContainerRig(_InBusybox(engine), podman)


@pytest.mark.real_time
class TestContainerEngineOnDocker(EngineSuite):
    variables_that_give_way = ()
    has_places_of_its_own = False

    @pytest.fixture
    async def rig(self, docker: Docker, tmp_path: Path) -> AsyncIterator[ContainerRig]:
        async with ContainerEngine(tmp_path / "containers", Clock.start(), sockets=[docker.socket]) as engine:
            yield ContainerRig(_InBusybox(engine), docker)
