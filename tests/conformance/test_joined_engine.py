"""Two engines as one: the suite of every engine, and who gets what."""

import pytest

from hale.clock import Clock
from hale.core.image import Credentials
from hale.errors import PreparationError
from hale.local.engines.joined import JoinedEngine
from hale.memory.engine import MemoryEngine
from hale.ports import Engine, ExecResult, Launch
from tests.conformance.engine import EngineSuite, launch, template
from tests.conformance.test_engine import MemoryRig


class JoinedRig:
    """The suite's replicas are processes; the containers stand beside them."""

    def __init__(self) -> None:
        inner = MemoryRig()
        self.engine: Engine = JoinedEngine(inner.engine, MemoryEngine(Clock.start()))
        self.end, self.say, self.command, self.missing = inner.end, inner.say, inner.command, inner.missing


class TestJoinedEngine(EngineSuite):
    @pytest.fixture
    async def rig(self) -> JoinedRig:
        return JoinedRig()


def joined() -> tuple[JoinedEngine, MemoryEngine, MemoryEngine]:
    processes, containers = MemoryEngine(Clock.start()), MemoryEngine(Clock.start())
    return JoinedEngine(processes, containers), processes, containers


def of_image(replica_id: str = "c1") -> Launch:
    return launch(replica_id, made_of=template(image="web:1"))


async def test_an_image_makes_a_container_and_a_command_alone_a_process() -> None:
    engine, processes, containers = joined()
    await engine.start(of_image("c1"))
    await engine.start(launch("p1"))
    assert [each.replica_id for each in containers.launches] == ["c1"]
    assert [each.replica_id for each in processes.launches] == ["p1"]
    assert {each.replica_id for each in await engine.instances()} == {"c1", "p1"}


async def test_what_the_engine_before_us_started_is_found_where_it_is() -> None:
    _, processes, containers = joined()
    await containers.start(of_image("c1"))
    containers.write("c1", "hello")
    again = JoinedEngine(processes, containers)
    assert [line.text for line in await again.log_lines("c1")] == ["hello"]
    await again.stop("c1", grace=1)
    (instance,) = await again.instances()
    assert not instance.running
    await again.remove("c1")
    assert list(await containers.instances()) == []


async def test_commands_run_where_the_replica_is() -> None:
    engine, _, containers = joined()
    await engine.start(of_image("c1"))
    containers.execution = lambda replica_id, command: ExecResult(0, replica_id)
    assert (await engine.execute("c1", ["true"], timeout=1)).output == "c1"


async def test_ends_on_both_sides_are_heard_of() -> None:
    engine, processes, containers = joined()
    heard: list[str] = []
    engine.on_exit(heard.append)
    await engine.start(of_image("c1"))
    await engine.start(launch("p1"))
    containers.exit("c1")
    processes.exit("p1")
    assert heard == ["c1", "p1"]


async def test_images_and_logins_are_the_containers_affair() -> None:
    engine, processes, containers = joined()
    containers.registry["web:1"] = "web@sha256:1"
    assert await engine.pull("web:1", None, lambda progress: None) == "web@sha256:1"
    assert await engine.find_image("web:1") == "web@sha256:1"
    containers.logins["registry"] = PreparationError("cannot log in", event="image.denied", fatal=True)
    with pytest.raises(PreparationError, match="cannot log in"):
        await engine.log_in(Credentials("registry", "me", "wrong"))
    assert processes.pulls == []


async def test_each_says_what_it_cannot_run() -> None:
    engine, _, _ = joined()
    assert engine.unable(template()) == ""
    assert "command" in engine.unable(template(()))
