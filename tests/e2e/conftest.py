"""Whole hales for end-to-end tests; what they logged is shown with a failure."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from kit.daemon import Hale


@pytest.fixture
def new_hale(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Hale]]:
    """Make hales, not started: new_hale("name", options=[...], env={...}); all are ended afterwards."""
    made: list[Hale] = []
    request.node.hales = made

    def new(name: str = "hale", **options: object) -> Hale:
        made.append(Hale(tmp_path / name, **options))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for hale in made:
        hale.end()


@pytest.fixture
def hale(new_hale: Callable[..., Hale]) -> Hale:
    """A hale that runs."""
    return new_hale().start()


@pytest.fixture(scope="module")
def shared_hale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hale]:
    """A hale that runs, one for a whole module: its tests use deployments with names of their own."""
    hale = Hale(tmp_path_factory.mktemp("shared") / "hale")
    try:
        yield hale.start()
    finally:
        hale.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        shared = [each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Hale)]
        for hale in {each.data: each for each in [*getattr(item, "hales", []), *shared]}.values():
            report.sections.append((f"log of hale serve on {hale.data}", hale.log_text()[-20_000:]))
            replicas = sorted(hale.data.glob("replicas/**/*log*"))
            for log in [path for path in replicas if path.is_file()][-4:]:
                report.sections.append((f"log of {log.name}", log.read_text(errors="replace")[-2_000:]))
    return report
