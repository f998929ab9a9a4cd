"""A change of `--engine` does not leave replicas running that nobody looks after."""

from dataclasses import replace
from pathlib import Path

import pytest

from hale.clock import Clock
from hale.daemon import _engines
from hale.errors import RefusedError
from hale.local.engines.container_records import Known, remember
from hale.local.engines.process import ProcessEngine
from hale.local.engines.records import Records, boot_id
from hale.ports import Instance
from hale.settings import Settings
from tests.conformance.engine import launch

pytestmark = pytest.mark.real_time

RUNS = Known("c0ffee", "SIGTERM", Instance("r1", 1, 100.0, "10.89.0.2", {8000: 8000}), boot_id())


def engines(data: Path, engine: str) -> int:
    return len(_engines(Settings(data=data, engine=engine), Clock.start()))


def remembered_as(data: Path, known: Known) -> None:
    records = Records(Settings(data=data).containers)
    records.prepare("r1", 1)
    remember(records, known)


async def test_processes_do_not_take_the_place_of_containers_that_run(tmp_path: Path) -> None:
    remembered_as(tmp_path, RUNS)
    with pytest.raises(RefusedError, match=r"replicas of before still run as containers \(1\)") as caught:
        engines(tmp_path, "process")
    assert "hale down" in caught.value.hint
    assert engines(tmp_path, "auto") == 2


@pytest.mark.parametrize(
    "known", [replace(RUNS, instance=replace(RUNS.instance, exited_at=200.0)), replace(RUNS, boot="another")]
)
async def test_containers_that_ended_are_in_nobodys_way(tmp_path: Path, known: Known) -> None:
    remembered_as(tmp_path, known)
    assert engines(tmp_path, "process") == 1


async def test_containers_do_not_take_the_place_of_processes_that_run(tmp_path: Path) -> None:
    async with ProcessEngine(Settings(data=tmp_path).replicas, Clock.start(), ignore_images=False) as engine:
        await engine.start(launch())
        with pytest.raises(RefusedError, match=r"replicas of before still run as processes \(1\)"):
            engines(tmp_path, "container")
        await engine.stop("r1", grace=10)
        assert engines(tmp_path, "container") == 1


async def test_a_folder_of_no_replicas_yet_takes_any_engine(tmp_path: Path) -> None:
    assert [engines(tmp_path / "new", each) for each in ("auto", "process", "container")] == [2, 1, 1]
