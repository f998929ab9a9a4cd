"""`hale render`: manifests on stdout, what is different on stderr, and nothing else asked."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hale.cli import main

SPEC = """\
name: web
image: web:1
env:
  - name: KEY
    value: secret:API_KEY
resources:
  machineType: C4
  ports: [8000]
"""

Render = Callable[..., tuple[int, str, str]]


@pytest.fixture
def render(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Render:
    """Runs the command in a folder with a spec, without a daemon; its code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HALE_API_URL", "http://127.0.0.1:1")
    Path("hale.yaml").write_text(SPEC)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["render", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_manifests_are_printed_and_notes_are_told(render: Render) -> None:
    code, out, err = render("hale.yaml")
    assert code == 0
    assert [each["kind"] for each in yaml.safe_load_all(out)] == ["Service", "Deployment", "Ingress"]
    assert [line.split("; ")[0] for line in err.splitlines()] == [
        "note: hale.yaml:2:1: image: is a tag: a cluster asks what it stands for at each start of a replica,"
        " not once for a revision",
        "note: Secret web-secrets of type Opaque is needed, with API_KEY: the secret API_KEY",
    ]


def test_json_is_one_list_of_the_same(render: Render) -> None:
    listed = json.loads(render("hale.yaml", "-o", "json")[1])
    assert listed["items"] == list(yaml.safe_load_all(render("hale.yaml")[1]))


def test_the_same_spec_is_the_same_text(render: Render) -> None:
    assert render("hale.yaml")[1] == render("hale.yaml")[1] == render(".")[1]


def test_options_and_settings(render: Render) -> None:
    Path("cluster.yaml").write_text("domain: a.org\nnamespace: a\nroute: {ingressClass: nginx}\n")
    options = ("--settings", "cluster.yaml", "--namespace", "b", "--domain", "b.org", "--name", "other")
    objects = list(yaml.safe_load_all(render("hale.yaml", *options)[1]))
    assert {(each["metadata"]["name"], each["metadata"]["namespace"]) for each in objects} == {("other", "b")}
    assert objects[-1]["spec"]["rules"][0]["host"] == "other.b.org"
    assert objects[-1]["spec"]["ingressClassName"] == "nginx"


def test_a_spec_is_read_from_standard_input(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SPEC.replace("web", "in").encode())))
    assert "name: in\n" in render("-")[1]


NO_IMAGE = SPEC.replace("image: web:1", "command: [x]")
NOT_HERE = "cannot use the settings of the cluster: none.yaml: no such file"


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        ([], NO_IMAGE, "1:1: image: is missing: a cluster runs images"),
        ([], SPEC + "basicAuthKey: x\n", "9:1: basicAuthKey: can't be enforced here"),
        (["--settings", "none.yaml"], SPEC, NOT_HERE),
        (["-n", "A"], SPEC, "cannot use the settings of the cluster: namespace: must be a name"),
    ],
)
def test_what_can_not_be_rendered_is_refused_and_nothing_printed(
    render: Render, arguments: list[str], text: str, said: str
) -> None:
    Path("hale.yaml").write_text(text)
    code, out, err = render("hale.yaml", *arguments)
    assert (code, out) == (1, "")
    assert said in err


def test_another_format_is_wrong_usage(render: Render) -> None:
    assert render("hale.yaml", "-o", "toml")[0] == 2
