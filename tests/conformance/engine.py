"""What every Engine must do. Subclass EngineSuite, provide `engine` and the commands of a replica."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from hale.core.deployment import Template
from hale.errors import EngineError
from hale.ports import Engine, Instance, Launch

RUNS = ("sh", "-c", "echo begun; exec sleep 1000")
PORTS = (8000, 9000)


def template(command: tuple[str, ...] = RUNS, **fields: object) -> Template:
    return replace(Template("key", command=command, ports=PORTS), **fields)  # type: ignore[arg-type]


def launch(replica_id: str = "r1", attempt: int = 1, made_of: Template | None = None) -> Launch:
    return Launch(replica_id, attempt, "d1", "web", 1, made_of or template())


async def found(engine: Engine, replica_id: str = "r1") -> Instance:
    (instance,) = [each for each in await engine.instances() if each.replica_id == replica_id]
    return instance


async def until(holds: Callable[[], object], *, within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


async def exited(engine: Engine, replica_id: str = "r1") -> Instance:
    async with asyncio.timeout(30):
        while (instance := await found(engine, replica_id)).running:
            await asyncio.sleep(0.01)
    return instance


class EngineSuite:
    async def test_a_started_replica_runs_and_has_its_ports(self, engine: Engine) -> None:
        instance = await engine.start(launch())
        assert instance.running
        assert list(instance.ports) == list(PORTS)
        assert len(set(instance.ports.values())) == len(PORTS)
        assert await found(engine) == instance

    async def test_starting_the_same_attempt_twice_is_one_replica(self, engine: Engine) -> None:
        first = await engine.start(launch())
        assert await engine.start(launch()) == first
        assert len(await engine.instances()) == 1

    async def test_a_new_attempt_takes_the_place_of_the_old(self, engine: Engine) -> None:
        await engine.start(launch(attempt=1))
        await engine.stop("r1", grace=10)
        await engine.start(launch(attempt=2))
        instance = await found(engine)
        assert (instance.attempt, instance.running) == (2, True)

    async def test_replicas_share_no_port(self, engine: Engine) -> None:
        started = [await engine.start(launch(f"r{number}")) for number in range(5)]
        ports = [port for instance in started for port in instance.ports.values()]
        assert len(set(ports)) == 5 * len(PORTS)

    async def test_a_stopped_replica_is_gone_when_stop_returns(self, engine: Engine) -> None:
        await engine.start(launch())
        await engine.stop("r1", grace=10)
        instance = await found(engine)
        assert (instance.running, instance.exit_code) == (False, -15)

    async def test_stopping_again_or_the_absent_is_not_an_error(self, engine: Engine) -> None:
        await engine.start(launch())
        await engine.stop("r1", grace=10)
        await engine.stop("r1", grace=10)
        await engine.stop("nobody", grace=0)

    async def test_listeners_hear_of_every_end(self, engine: Engine) -> None:
        heard: list[str] = []
        engine.on_exit(heard.append)
        await engine.start(launch("r1"))
        await engine.start(launch("r2"))
        await engine.stop("r1", grace=10)
        await until(lambda: heard == ["r1"])

    async def test_a_removed_replica_is_forgotten_with_its_log(self, engine: Engine) -> None:
        await engine.start(launch())
        await engine.stop("r1", grace=10)
        await engine.remove("r1")
        await engine.remove("r1")
        assert list(await engine.instances()) == []
        assert list(await engine.log_lines("r1")) == []

    async def test_a_running_replica_is_not_removed(self, engine: Engine) -> None:
        await engine.start(launch())
        with pytest.raises(EngineError, match="it runs"):
            await engine.remove("r1")
        assert (await found(engine)).running

    async def test_a_command_in_a_replica_that_does_not_run_is_refused(self, engine: Engine) -> None:
        with pytest.raises(EngineError, match="does not run"):
            await engine.execute("nobody", ["true"], timeout=1)

    async def test_a_template_without_anything_to_run_is_said_to_be_one(self, engine: Engine) -> None:
        assert "command" in engine.unable(template(()))
        assert engine.unable(template()) == ""

    async def test_the_log_of_a_replica_nobody_knows_is_empty(self, engine: Engine) -> None:
        assert list(await engine.log_lines("nobody")) == []
