"""What every Engine must do. Subclass EngineSuite, provide the `rig` fixture: an engine, and its replicas."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

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


class Rig(Protocol):
    """An engine, and what replicas (made by `launch`) do of their own accord."""

    engine: Engine

    async def end(self, replica_id: str) -> int:
        """The replica ends by itself; the exit code it ends with."""

    async def say(self, replica_id: str, *lines: str) -> None:
        """The replica writes these lines."""

    def command(self, output: str, *, code: int = 0, seconds: float = 0) -> Sequence[str]:
        """A command for `execute` that comes to this, after that time."""

    def missing(self) -> str:
        """The name of a command that can't be begun."""


async def texts(engine: Engine, *, after: tuple[int, int] = (0, -1)) -> list[str]:
    return [line.text for line in await engine.log_lines("r1", after=after)]


QUIET = ("sleep", "1000")


def places(instance: Instance) -> set[tuple[str, int]]:
    """Where its ports are: containers share the number and differ in address."""
    return {(instance.address, port) for port in instance.ports.values()}


class EngineSuite:
    variables_that_give_way: ClassVar[Sequence[str]] = ("PORT", "PORT_9000")
    """Of the spec's, to hale's own."""
    has_places_of_its_own: ClassVar[bool] = True
    """Whether an attempt is elsewhere than the one before. Docker gives an address that is free at once."""

    @pytest.fixture
    async def engine(self, rig: Rig) -> Engine:
        return rig.engine

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

    async def test_replicas_share_no_place(self, engine: Engine) -> None:
        started = [await engine.start(launch(f"r{number}")) for number in range(5)]
        assert len(set().union(*map(places, started))) == 5 * len(PORTS)

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

    # --- starting what can't be, or anew ---

    async def test_what_cannot_be_started_is_not_held(self, rig: Rig) -> None:
        with pytest.raises(EngineError, match="cannot start"):
            await rig.engine.start(launch(made_of=template((rig.missing(),))))
        assert list(await rig.engine.instances()) == []

    async def test_a_template_without_anything_to_run_is_not_started(self, engine: Engine) -> None:
        with pytest.raises(EngineError, match="nothing to run"):
            await engine.start(launch(made_of=template(())))

    async def test_the_same_attempt_is_one_replica_though_asked_for_at_once(self, engine: Engine) -> None:
        first, second = await asyncio.gather(engine.start(launch()), engine.start(launch()))
        assert first == second

    async def test_an_attempt_that_has_ended_is_not_started_again(self, rig: Rig) -> None:
        await rig.engine.start(launch())
        await rig.end("r1")
        ended = await exited(rig.engine)
        assert await rig.engine.start(launch()) == ended

    async def test_a_new_attempt_ends_an_old_one_that_still_runs(self, engine: Engine) -> None:
        old = await engine.start(launch(attempt=1))
        new = await engine.start(launch(attempt=2))
        assert await found(engine) == new
        assert not (self.has_places_of_its_own and places(old) & places(new))

    async def test_variables_that_give_way_to_hales_are_noted(self, engine: Engine) -> None:
        env = (("PORT", "80"), ("PORT_9000", "81"), ("PORT_1", "mine"), ("GREETING", "hello"))
        instance = await engine.start(launch(made_of=template(env=env)))
        named = [note.split()[1] for note in instance.notes if note.startswith("env: ")]
        assert named == list(self.variables_that_give_way)

    # --- ends ---

    async def test_one_that_ends_by_itself_is_heard_of_and_its_exit_code_known(self, rig: Rig) -> None:
        heard: list[str] = []
        rig.engine.on_exit(heard.append)
        before = await rig.engine.start(launch())
        code = await rig.end("r1")
        instance = await exited(rig.engine)
        assert (instance.exit_code, heard) == (code, ["r1"])
        assert instance.exited_at is not None
        assert instance.exited_at >= before.started_at
        assert replace(instance, exited_at=None, exit_code=None) == before

    async def test_when_a_listener_hears_of_an_end_it_is_known(self, rig: Rig) -> None:
        heard: list[asyncio.Task[Instance]] = []
        async with asyncio.TaskGroup() as group:
            rig.engine.on_exit(lambda replica_id: heard.append(group.create_task(found(rig.engine))))
            await rig.engine.start(launch())
            await rig.end("r1")
            await until(lambda: heard)
        assert not heard[0].result().running

    async def test_every_listener_hears(self, rig: Rig) -> None:
        first: list[str] = []
        second: list[str] = []
        rig.engine.on_exit(first.append)
        rig.engine.on_exit(second.append)
        await rig.engine.start(launch())
        await rig.end("r1")
        await until(lambda: (first, second) == (["r1"], ["r1"]))

    # --- commands in replicas ---

    async def test_a_command_answers_with_its_code_and_output(self, rig: Rig) -> None:
        await rig.engine.start(launch())
        result = await rig.engine.execute("r1", rig.command("sick", code=3), timeout=30)
        assert (result.code, result.output) == (3, "sick")

    async def test_a_command_that_takes_too_long_has_no_code(self, rig: Rig) -> None:
        await rig.engine.start(launch())
        result = await rig.engine.execute("r1", rig.command("", seconds=600), timeout=0.2)
        assert result.code is None

    async def test_of_a_commands_output_10_kib_are_kept(self, rig: Rig) -> None:
        await rig.engine.start(launch())
        result = await rig.engine.execute("r1", rig.command("x" * 20_000), timeout=30)
        assert (result.code, len(result.output)) == (0, 10_240)

    async def test_a_command_that_cannot_be_begun_is_refused(self, rig: Rig) -> None:
        await rig.engine.start(launch())
        with pytest.raises(EngineError, match=f"cannot run {rig.missing()}"):
            await rig.engine.execute("r1", [rig.missing()], timeout=30)

    async def test_a_command_in_a_replica_that_has_ended_is_refused(self, rig: Rig) -> None:
        await rig.engine.start(launch())
        await rig.end("r1")
        await exited(rig.engine)
        with pytest.raises(EngineError, match="does not run"):
            await rig.engine.execute("r1", ["true"], timeout=30)

    # --- logs ---

    async def test_lines_come_in_order_and_after_the_last_one_seen(self, rig: Rig) -> None:
        await rig.engine.start(launch(made_of=template(QUIET)))
        await rig.say("r1", "one", "", "three")
        assert await texts(rig.engine) == ["one", "", "three"]
        first, second, _ = await rig.engine.log_lines("r1")
        assert await texts(rig.engine, after=(1, first.position)) == ["", "three"]
        assert await texts(rig.engine, after=(1, second.position)) == ["three"]

    async def test_lines_go_on_over_attempts(self, rig: Rig) -> None:
        for attempt in (1, 2):
            await rig.engine.start(launch(attempt=attempt, made_of=template(QUIET)))
            await rig.say("r1", f"of {attempt}", "last")
            await rig.engine.stop("r1", grace=10)
        lines = await rig.engine.log_lines("r1")
        assert [(line.attempt, line.text) for line in lines] == [
            (1, "of 1"),
            (1, "last"),
            (2, "of 2"),
            (2, "last"),
        ]
        assert await texts(rig.engine, after=(1, lines[0].position)) == ["last", "of 2", "last"]
        assert await texts(rig.engine, after=(2, lines[2].position)) == ["last"]

    async def test_a_thousand_lines_come_at_once(self, rig: Rig) -> None:
        await rig.engine.start(launch(made_of=template(QUIET)))
        await rig.say("r1", *(str(number) for number in range(1500)))
        lines = await rig.engine.log_lines("r1")
        assert (len(lines), lines[-1].text) == (1000, "999")
        assert len(await texts(rig.engine, after=(1, lines[-1].position))) == 500

    async def test_a_line_knows_when_it_was_written(self, rig: Rig) -> None:
        instance = await rig.engine.start(launch(made_of=template(QUIET)))
        await rig.say("r1", "now")
        (line,) = await rig.engine.log_lines("r1")
        # To a second: some engines leave the rest away.
        assert instance.started_at - 1 <= line.at <= instance.started_at + 30
