"""What is refused, missing or of no effect when a spec is applied, and where."""

import os
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.core.secret import MARK
from hale.core.volume import variable
from hale.spec import compile as compiled
from hale.spec import load, unsupported
from hale.spec.problems import Problem
from tests.spec.specs import BASE, body


def read(text: str) -> Any:
    return load.load_text(BASE + text, format="yaml", filename="app.yaml")


def refused(*integrations: dict[str, Any]) -> list[str]:
    spec = load.from_body(body(integrations=list(integrations)))
    return [str(problem) for problem in unsupported.refusals(spec)]


def s3(**changes: Any) -> dict[str, Any]:
    return {"type": "s3", "name": "data", "url": "s3://bucket/", **changes}


def git(name: str, path: str | None = None) -> dict[str, Any]:
    said = {"type": "git-lfs", "name": name, "url": "https://host/repository"}
    return said if path is None else {**said, "path": path}


def test_everything_that_cannot_be_done_here_is_refused_with_its_place() -> None:
    spec = read(
        "  autoscaling: {maxReplicas: 2, metrics: []}\n"
        "basicAuthKey: 'secret:'\n"
        "integrations: [{type: model, id: m, name: m}, {type: git-lfs, name: a, url: 'ext::sh', path: x}]\n"
        "env: [{name: A, value: b}, {name: B, value: 'secret:9'}]\n"
    )
    assert [str(problem) for problem in unsupported.refusals(spec)] == [
        "app.yaml:8:16: integrations[0]: stored models don't exist here; "
        "write an integration of type git-lfs or s3, or put the model into the image",
        'app.yaml:8:88: integrations[1].path: must be an absolute path, not "x"',
        "app.yaml:8:72: integrations[1].url: must be an address of https, http, ssh, git, file, not of ext",
        "app.yaml:6:3: resources.autoscaling: can't be done here yet; "
        "remove it or set enabled: false; replicas stays",
        "app.yaml:9:38: env[1].value: refers to a secret by a name that none has; "
        "a name is a letter, then letters, digits and _, 128 at most",
        "app.yaml:7:1: basicAuthKey: refers to a secret by a name that none has; "
        "a name is a letter, then letters, digits and _, 128 at most",
    ]


@pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "pa#ss"])
def test_a_url_whose_password_is_cut_off_is_refused_and_not_shown(password: str) -> None:
    spec = read(f"integrations: [{{type: git-lfs, name: a, url: 'https://me:{password}@host/repository'}}]\n")
    assert [str(problem) for problem in unsupported.refusals(spec)] == [
        "app.yaml:6:41: integrations[0].url: has a port that is no number; "
        "in a password write %2F for /, %3F for ? and %23 for #"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://host:8080/@scope/repository",
        "https://me:pass@host:8080/repository",
        "https://me:p%2Fw@host/repository",
        "ssh://git@host:22/repository",
        "https://[::1]:8080/repository",
        "file:///srv/a:b/repository",
    ],
)
def test_a_url_with_a_port_or_a_password_as_they_are_written_is_taken(url: str) -> None:
    spec = read(f"integrations: [{{type: git-lfs, name: a, url: '{url}'}}]\n")
    assert unsupported.refusals(spec) == []


def test_fields_of_v0alpha0_are_refused_under_their_own_names() -> None:
    text = (
        "name: web\nimage: x\nport: 80\nresources: {instanceType: C4}\nmodels: [{id: m}, {id: n}]\n"
        "repositories: {dataset: d, repositories: [{url: u, name: n}]}\n"
    )
    spec = load.load_text(text, format="yaml", filename="app.yaml")
    assert [str(problem) for problem in unsupported.refusals(spec)] == [
        "app.yaml:5:1: models: stored models don't exist here; "
        "write an integration of type git-lfs or s3, or put the model into the image",
        "app.yaml:6:1: repositories: repositories can't be mounted here; "
        "set apiVersion: v1 and write integrations of type git-lfs",
    ]
    assert [each["id"] for each in spec.data()["integrations"]] == ["m", "n"]


def test_what_containers_are_for_is_no_reason_to_refuse() -> None:
    spec = load.from_body(
        body(
            image="app:1",
            containerRegistry="mine",
            basicAuthKey="secret:A",
            env=[{"name": "A", "value": "secret:B_2"}, {"name": "B", "value": "not a secret:B"}],
            integrations=[
                s3(accessKeyId="secret:ID", secretAccessKey="secret:KEY"),
                s3(name="public", url="s3://bucket/a"),
                git("model", "/models/"),
                git("other", "/opt/integrations/other"),
                {"type": "volume", "name": "state"},
            ],
            healthChecks={"liveness": {"path": "/", "port": 9}},
        )
    )
    assert unsupported.refusals(spec) == []


def test_autoscaling_that_is_off_is_no_reason_to_refuse() -> None:
    off = {"enabled": False, "maxReplicas": 3, "metrics": []}
    resources = {"machineType": "C4", "ports": [8000], "autoscaling": off}
    assert unsupported.refusals(load.from_body(body(resources=resources))) == []


def test_the_mask_is_no_password() -> None:
    spec = load.from_body(body(basicAuthKey="***"))
    assert [problem.path for problem in unsupported.refusals(spec)] == ["basicAuthKey"]


def test_the_mask_in_a_url_is_no_password() -> None:
    model = {"type": "git-lfs", "name": "model", "url": "https://***@git.example.com/model"}
    spec = load.from_body(body(integrations=[model]))
    assert [problem.path for problem in unsupported.refusals(spec)] == ["integrations[0].url"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"secretAccessKey": "my-secret:KEY", "accessKeyId": "A"},
            "integrations[0].secretAccessKey: must be a reference and nothing else, like secret:NAME",
        ),
        (
            {"secretAccessKey": "secret:a b", "accessKeyId": "A"},
            "integrations[0].secretAccessKey: refers to a secret by a name that none has; "
            "a name is a letter, then letters, digits and _, 128 at most",
        ),
        (
            {"secretAccessKey": "secret:KEY"},
            "integrations[0].secretAccessKey: is there without accessKeyId; write both, or neither",
        ),
        (
            {"accessKeyId": "A"},
            "integrations[0].accessKeyId: is there without secretAccessKey; write both, or neither",
        ),
        ({"url": "s3:///x"}, "integrations[0].url: names no bucket; write s3://BUCKET/"),
        ({"path": "models"}, 'integrations[0].path: must be an absolute path, not "models"'),
        ({"path": ""}, 'integrations[0].path: must be an absolute path, not ""'),
        ({"path": "/a/../proc"}, 'integrations[0].path: must be a path without .., not "/a/../proc"'),
        (
            {"path": "/dev"},
            "integrations[0].path: must not be in /dev, where the kernel's own files are",
        ),
        (
            {"path": "//proc/./x/"},
            "integrations[0].path: must not be in /proc, where the kernel's own files are",
        ),
        (
            {"path": "/", "name": "sys"},
            "integrations[0].path: must not be in /sys, where the kernel's own files are",
        ),
        (
            {"path": "/a:b"},
            'integrations[0].path: must be without a colon, which no engine can mount, not "/a:b"',
        ),
        (
            {"name": "a:b"},
            'integrations[0].name: must be without a colon, which no engine can mount, not "a:b"',
        ),
        ({"name": ".."}, 'integrations[0].name: must be the name of a folder, without /, not ".."'),
        ({"name": "a/b"}, 'integrations[0].name: must be the name of a folder, without /, not "a/b"'),
        (
            {"name": "é" * 65},
            'integrations[0].name: must be at most 128 bytes long, not "' + "é" * 59 + '…"',
        ),
    ],
)
def test_an_integration_that_leads_nowhere_is_refused(changes: dict[str, Any], said: str) -> None:
    assert refused(s3(**changes)) == [said]


@pytest.mark.parametrize("name", ["sys", "etc"])
def test_a_path_of_the_top_is_one_with_the_name(name: str) -> None:
    assert bool(refused(git(name, "/"))) == (name == "sys")


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (git("data", "/b"), "integrations[1].name: is the name of integrations[0] too; give each its own"),
        (
            git("DaTa", "/b"),
            "integrations[1].name: stands for HALE_INTEGRATION_DATA, as the name of integrations[0] does; "
            "give each its own",
        ),
        (
            git("opt", "/"),
            "integrations[1].path: would be mounted at /opt, and integrations[0] at /opt/integrations/data; "
            "give each a folder of its own",
        ),
        (
            git("inner", "/opt/integrations/data"),
            "integrations[1].path: would be mounted at /opt/integrations/data/inner, "
            "and integrations[0] at /opt/integrations/data; give each a folder of its own",
        ),
    ],
)
def test_integrations_in_each_others_way_are_refused(second: dict[str, Any], said: str) -> None:
    assert refused(s3(), second) == [said]
    assert refused(s3(), git("x"), second)[0].startswith("integrations[2]")


def test_folders_that_only_begin_alike_are_not_in_each_others_way() -> None:
    assert refused(git("a", "/m"), git("ab", "/m"), git("c", "/m/abc")) == []


def test_six_integrations_are_one_too_many() -> None:
    five = [git(f"m{number}") for number in range(5)]
    assert refused(*five) == []
    assert refused(*five, git("m5")) == [
        "integrations: must have at most 5 entries, and has 6; "
        "put what belongs together in one bucket or repository"
    ]


def test_a_refused_reference_is_not_shown() -> None:
    spec = load.from_body(
        body(
            basicAuthKey=f"{MARK}hunter2!",
            env=[{"name": "A", "value": f"{MARK}hunter2!"}],
            integrations=[s3(accessKeyId=f"{MARK}hunter2!", secretAccessKey="hunter2 secret:A")],
        )
    )
    found = unsupported.refusals(spec)
    assert len(found) == 4
    assert "hunter2" not in str(found)


SECRETS = """\
basicAuthKey: secret:A
env: [{name: A, value: b}, {name: B, value: "secret:B"}, {name: C, value: "secret:9"}]
integrations: [{type: s3, name: d, url: s3://b/, accessKeyId: secret:B, secretAccessKey: secret:C}]
"""


def test_missing_secrets_are_named_with_their_place() -> None:
    spec = read(SECRETS)
    assert [str(problem) for problem in unsupported.missing_secrets(spec, {"B"})] == [
        "app.yaml:6:1: basicAuthKey: there is no secret A; hale secret set A",
        "app.yaml:8:73: integrations[0].secretAccessKey: there is no secret C; hale secret set C",
    ]
    assert unsupported.missing_secrets(spec, {"A", "B", "C"}) == []


def test_a_missing_registry_is_named_with_its_place() -> None:
    spec = read("containerRegistry: my registry\n")
    assert list(map(str, unsupported.missing_registry(spec, ["mine"]))) == [
        'app.yaml:6:1: containerRegistry: there is no registry connection "my registry"; '
        "hale registry add 'my registry'",
    ]
    assert unsupported.missing_registry(spec, ["my registry"]) == []
    assert unsupported.missing_registry(read(""), []) == []
    assert unsupported.missing_registry(read("containerRegistry: ''\n"), []) == []


def test_notes_say_what_makes_no_difference() -> None:
    twice = [{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]
    own = {"pull": "always"}
    spec = load.from_body(body(region="ny2", env=twice, containerRegistry="mine", hale=own))
    assert unsupported.notes(spec) == [
        "region has no effect here: replicas run on this machine",
        "containerRegistry has no effect: there is no image to pull",
        "hale.pull has no effect: there is no image to pull",
        "env has A more than once: the last one counts",
    ]
    assert unsupported.notes(load.from_body(body(image="app:1", containerRegistry="mine", hale=own))) == []


def test_places_are_those_of_problems() -> None:
    found = unsupported.missing_secrets(read(SECRETS), {"B", "C"})
    assert found == [Problem("basicAuthKey", "there is no secret A", "app.yaml", 6, 1, "hale secret set A")]


segments = st.sampled_from(["/", "//", "a", "b", ".", "..", "proc", "dev", "x:y", "opt", "integrations"])
mounted = st.builds(
    git,
    st.sampled_from(["a", "b", "A", "proc", "opt", "integrations", ".."]),
    st.none() | st.lists(segments, max_size=5).map(lambda parts: "/".join(["", *parts])),
)


@given(st.lists(mounted, min_size=1, max_size=3))
@settings(deadline=None)
def test_what_is_not_refused_can_be_mounted(integrations: list[dict[str, Any]]) -> None:
    if refused(*integrations):
        return
    sources = compiled.template(load.from_body(body(integrations=integrations))).sources
    targets = [source.target for source in sources]
    assert targets == [os.path.normpath(target) for target in targets]
    assert not [target for target in targets if re.match(r"(?!/[^/])|/(proc|sys|dev)(/|$)|.*:", target)]
    pairs = [(one, other) for one in targets for other in targets if one is not other]
    assert not [pair for pair in pairs if (pair[0] + "/").startswith(pair[1] + "/")]
    assert len({variable(source.name) for source in sources}) == len(sources)
