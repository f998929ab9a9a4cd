"""The three formats: what they mean, and where things stand in them."""

import json
from pathlib import Path

import pytest

from hale.errors import NotFoundError
from hale.spec import load
from hale.spec.problems import SpecError
from hale.spec.schema import Spec
from tests.spec.specs import BASE, body, problems

JSONC = """\
{
  // a comment, with "quotes"
  "$schema": "https://example.com/schema.json",
  "name": "web", /* and
  another */ "command": ["python", "app.py",],
  "resources": {"machineType": "C4", "ports": [8000]},
  "region": "\\ud83d\\ude00 // no comment",
}
"""

TOML = """\
# a comment
name = "web" # another [comment]
command = ["python", 'app.py', # [one more]
  \"\"\"two
lines\"\"\"]

[resources]
machineType = "C4"
ports = [
  8000,
  8001 ]

[[env]]
name = "A"
value = "b = [c]"
[[env]]
"name" = 'D'
value = "e"

[healthChecks]
readiness.path = "/"
liveness = { path = "/x", headers = [ { name = "H", value = "v" } ] }
"""


def read(text: str, kind: str = "yaml") -> Spec:
    return load.load_text(text, format=kind, filename=f"app.{kind}")


def test_json_may_have_comments_trailing_commas_and_a_schema() -> None:
    spec = read(JSONC, "jsonc")
    assert (spec.name, spec.command, spec.region) == ("web", ("python", "app.py"), "😀 // no comment")


def test_toml_is_read_whole() -> None:
    spec = read(TOML, "toml")
    assert spec.command == ("python", "app.py", "two\nlines")
    assert [(each.name, each.value) for each in spec.env or ()] == [("A", "b = [c]"), ("D", "e")]
    assert spec.resources.ports == (8000, 8001)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name": "web"', '"name": 5', "4:3: name: must be a string, not 5; quote it"),
        ('"app.py"', "true", "5:36: command[1]: must be a string, not true; quote it"),
        ("8000", '"80"', '6:48: resources.ports[0]: must be a whole number, not "80"; remove the quotes'),
        ('"region"', '"name"', "7:3: name: is there twice, first at 4:3; keep one"),
        ('"region"', '"regoin"', "7:3: regoin: unknown key; did you mean region?"),
        ('"web"', "web", '4:11: not JSON: a value must stand here, not "web"'),
        ('"name": "web",', '"name": "web"', '5:14: not JSON: "," or "}" must stand here, not "\\""'),
        ("/* and", "/ and", '4:18: not JSON: a key in double quotes or "}" must stand here, not "/"'),
        ("another */", "another", "4:18: not JSON: a comment that has no end"),
        ("\\ud83d", "\\x", "7:13: not JSON: a string with an escape that JSON does not have"),
        ("[8000]", "[08000]", '6:49: not JSON: "," or "]" must stand here, not "8"'),
    ],
)
def test_places_in_json(old: str, new: str, said: str) -> None:
    assert problems(JSONC.replace(old, new), "json") == [f"app.json:{said}"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "web"', "name = 5", "2:1: name: must be a string, not 5; quote it"),
        ("'app.py'", "1.5", "3:22: command[1]: must be a string, not 1.5; quote it"),
        (
            '"""two\nlines"""',
            "1979-05-27 07:32:00",
            "4:3: command[2]: must be a string or a number, not a date or time",
        ),
        ("  8001", "  0", "11:3: resources.ports[1]: must be at least 1, not 0"),
        ('value = "e"', 'vale = "e"\nvalue = "f"', "18:1: env[1].vale: unknown key; did you mean value?"),
        (
            'readiness.path = "/"',
            "readiness.path = ''",
            "21:1: healthChecks.readiness.path: must not be empty",
        ),
        (
            'value = "v"',
            "value = 1",
            "22:53: healthChecks.liveness.headers[0].value: must be a string, not a number; quote it",
        ),
        ("machineType", "ports = 1\nmachineType", "12:9: not TOML: cannot overwrite a value"),
        ('"C4"', "C4", "8:15: not TOML: invalid value"),
    ],
)
def test_places_in_toml(old: str, new: str, said: str) -> None:
    assert problems(TOML.replace(old, new), "toml") == [f"app.toml:{said}"]


def test_yaml_is_version_1_2() -> None:
    spec = read(
        BASE + "env: [{name: A, value: yes}, {name: B, value: 12:30:45}, {name: C, value: 2001-01-01}]\n"
    )
    assert [each.value for each in spec.env or ()] == ["yes", "12:30:45", "2001-01-01"]
    assert read(BASE.replace("8000", "0o17")).resources.ports == (15,)
    assert read(BASE.replace("8000", "0x1F")).resources.ports == (31,)
    assert read(BASE.replace("8000", "0080")).resources.ports == (80,)
    assert read(BASE.replace("8000", "8e3")).resources.ports == (8000,)
    assert read(BASE.replace("web", "!!str 5")).name == "5"


def test_yaml_anchors_aliases_and_merges() -> None:
    spec = read(
        BASE
        + "healthChecks:\n  liveness: &check {path: /live, periodSeconds: 5}\n"
        + "  readiness: {<<: *check, path: /ready}\n"
        + "  startup: {<<: [{timeoutSeconds: 2}, {timeoutSeconds: 3}, *check]}\n"
    )
    assert spec.data()["healthChecks"] == {
        "liveness": {"path": "/live", "periodSeconds": 5},
        "readiness": {"path": "/ready", "periodSeconds": 5},
        "startup": {"path": "/live", "periodSeconds": 5, "timeoutSeconds": 2},
    }


def test_an_alias_within_bounds_may_be_used_often() -> None:
    spec = read(BASE + "env:\n- &e {name: A, value: b}\n" + "- *e\n" * 1000)
    assert len(spec.env or ()) == 1001


def test_a_wrong_value_behind_an_alias_is_shown_where_it_stands() -> None:
    text = BASE + "healthChecks:\n  liveness: &check {path: /, port: 0}\n  readiness: *check\n"
    assert problems(text) == [
        "app.yaml:7:30: healthChecks.liveness.port: must be at least 1, not 0",
        "app.yaml:7:30: healthChecks.readiness.port: must be at least 1, not 0",
    ]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read("\ufeff" + BASE).name == "web"


def test_windows_line_ends_count_once() -> None:
    assert problems((BASE + "foo: 1\n").replace("\n", "\r\n"))[0].startswith("app.yaml:6:1: foo")


def test_a_body_has_field_paths_and_no_places() -> None:
    with pytest.raises(SpecError) as error:
        load.from_body(body(name=5, healthChecks={"liveness": {"path": "/", "port": "80"}}))
    assert [str(problem) for problem in error.value.problems] == [
        "name: must be a string, not 5; quote it",
        'healthChecks.liveness.port: must be a whole number, not "80"; remove the quotes',
    ]
    assert error.value.code == "BAD_REQUEST"


@pytest.mark.parametrize(
    "config", [None, [], "x", 5, {1: 2}, {"name": b"x"}, {"name": 10**400}, {"name": "\ud800"}]
)
def test_a_body_that_is_no_spec_is_refused(config: object) -> None:
    with pytest.raises(SpecError):
        load.from_body(config)


def test_a_deep_body_is_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(SpecError, match="nested more than 64 levels deep"):
        load.from_body(deep)


def test_find_takes_hale_files_first_and_then_gradients(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot find a spec in"):
        load.find(tmp_path)
    (tmp_path / ".paperspace").mkdir()
    found = []
    for name in reversed(load.NAMES):
        (tmp_path / name).touch()
        found.append(load.find(tmp_path).relative_to(tmp_path).as_posix())
    assert found == list(reversed(load.NAMES))
    assert load.NAMES[0] == "hale.yaml"
    assert load.NAMES[5:] == (
        *("paperspace.yaml", "paperspace.yml", "paperspace.json", "paperspace.jsonc", "paperspace.toml"),
        *(f".paperspace/app.{suffix}" for suffix in ("yaml", "yml", "json", "jsonc", "toml")),
    )


@pytest.mark.parametrize(
    ("written", "folder"), [("app", "app"), (".", "."), ("/srv", "/srv"), ("../x", "../x")]
)
def test_a_relative_workdir_is_taken_from_the_files_folder(tmp_path: Path, written: str, folder: str) -> None:
    file = tmp_path / "hale.yaml"
    file.write_text(BASE + f"hale: {{workdir: {written}}}\n")
    spec = load.load_file(file)
    assert spec.hale is not None
    assert spec.hale.workdir == str(tmp_path / folder)


def test_without_a_workdir_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "hale.json"
    file.write_text(json.dumps(body()))
    assert load.load_file(file).hale is None
    assert load.home(file) == tmp_path
    assert load.home(tmp_path / ".paperspace" / "app.yaml") == tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.yaml", "no such file or directory"),
        ("folder.yaml", "is a directory"),
        ("spec.txt", "its name ends in .txt, and a spec is .yaml, .json, .jsonc or .toml"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpecError) as error:
        load.load_file(tmp_path / name)
    assert error.value.message == f"cannot read the spec: {tmp_path / name}: {said}"


def test_the_message_names_the_file_and_has_every_problem() -> None:
    with pytest.raises(SpecError) as error:
        read(BASE + "foo: 1\nenabled: 1\n")
    assert error.value.message == (
        "cannot use app.yaml: 2 problems\n"
        f"  {error.value.problems[0]}\n"
        "  app.yaml:7:1: enabled: must be true or false, not 1"
    )
    assert len(error.value.problems) == 2
