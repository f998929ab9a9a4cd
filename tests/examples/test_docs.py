"""README and docs/ beside the code: what they list is what there is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from hale.api.app import create_app
from hale.cli.main import app as cli
from hale.clock import Clock
from hale.core.probe import ProbeKind
from hale.core.replica import TRANSITIONS, Phase
from hale.memory.platform import MemoryPlatform
from hale.memory.store import MemoryStore
from hale.settings import Settings
from hale.spec import schema
from hale.spec.load import load_text

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def words_in(text: str) -> set[str]:
    """Every word within backquotes."""
    return {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[\w*]+", quoted)}


# --- links and examples ---------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", ["README.md", "docs/spec.md", "docs/containers.md"])
def test_specs_that_are_shown_are_valid(name: str) -> None:
    shown = re.findall(r"```yaml\n(apiVersion:.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert len(shown) == 1
    assert load_text(shown[0], format="yaml", filename=name).api_version == "v1"


# --- the spec, the API, the command line ----------------------------------------------------


def fields(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


@pytest.mark.parametrize(
    "model",
    [
        schema.Spec, schema.Resources, schema.Autoscaling, schema.HealthChecks, schema.HttpCheck,
        schema.ExecCheck, schema.Settings, schema.Strategy, schema.Backoff, schema.GitLfs, schema.S3,
        schema.Spaces, schema.Volume,
    ],
)  # fmt: skip
def test_every_field_of_the_spec_is_described(model: type[BaseModel]) -> None:
    assert set(fields(model)) - words_in(page("spec.md")) == set()


@pytest.mark.parametrize("model", [schema.Settings, schema.Strategy, schema.Backoff])
def test_the_readme_has_every_setting_of_hale(model: type[BaseModel]) -> None:
    assert set(fields(model)) - words_in(README) == set()


def routes() -> set[str]:
    app = create_app(
        store=MemoryStore(),
        platform=MemoryPlatform(MemoryStore()),
        settings=Settings(),
        clock=Clock(epoch=0.0, origin=0.0),
        token="t",
        down=lambda: None,
    )
    return {
        f"{method.upper()} {re.sub(r'{.*?}', '{id}', path.removeprefix('/v1'))}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }


def test_the_api_page_has_every_route_and_no_other() -> None:
    told = set()
    for row in re.findall(r"^\| (`(?:GET|POST|PUT|PATCH|DELETE).*?) \|", page("api.md"), re.MULTILINE):
        methods: list[str] = []
        for quoted in re.findall(r"`([^`]+)`", row):
            *named, last = quoted.split()
            if last.startswith("/"):
                methods += named
                told |= {f"{method} {last}" for method in methods}
                methods = []
            else:
                methods.append(last)
    assert told == routes()


def test_the_readme_has_every_command() -> None:
    told = set(re.findall(r"`hale (\w+)", README))
    assert told == set(get_command(cli).commands)  # type: ignore[attr-defined]


# --- the life of a replica ------------------------------------------------------------------


def test_the_diagram_is_the_table_of_transitions() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", page("architecture.md"), re.MULTILINE)
    table = [(p.value, to.value, t.value) for p, row in TRANSITIONS.items() for t, to in row.items()]
    assert drawn == table
    assert {phase.value for phase in Phase} <= words_in(page("architecture.md"))
    assert {kind.value for kind in ProbeKind} <= words_in(page("health-checks.md"))


def test_the_layout_names_what_is_there() -> None:
    layout = page("architecture.md").partition("## Layout")[2].partition("```\n\n")[0]
    for name in re.findall(r"(\w+\.(?:py|sql))", layout):
        assert list((ROOT / "src" / "hale").rglob(name)), name
    for name in re.findall(r"── (\w+)/", layout):
        assert list((ROOT / "src" / "hale").rglob(name)), name


def test_events_in_the_api_page_are_those_that_are_told() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "hale").rglob("*.py"))
    made = set(re.findall(r'"((?:deployment|revision|replica|check|gateway|image|volume)\.[a-z_]+)"', source))
    rows = re.findall(r"^\| `(\w+\.)` \| (.+) \|$", page("api.md"), re.MULTILINE)
    told = {prefix + name for prefix, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == made


def test_the_page_on_containers_has_every_event_of_images_and_volumes() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "hale").rglob("*.py"))
    made = set(re.findall(r'"((?:image|volume)\.[a-z_]+)"', source))
    assert made
    assert made - set(re.findall(r"`((?:image|volume)\.[a-z_]+)`", page("containers.md"))) == set()
