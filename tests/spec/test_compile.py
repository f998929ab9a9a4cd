"""A spec as the core and as clients have it; what this machine refuses."""

from typing import Any

import pytest

from hale.core.backoff import Backoff
from hale.core.deployment import Share, Strategy
from hale.core.probe import ExecAction, HttpAction, Probe, ProbeKind
from hale.errors import RefusedError
from hale.spec import compile as compiled
from hale.spec import load, unsupported
from hale.spec.problems import SpecError
from hale.spec.schema import Spec
from tests.api.openapi import GRADIENT
from tests.api.openapi import problems as against
from tests.spec.specs import BASE, body

CHECKS = {
    "startup": {"path": "up", "failureThreshold": 6, "periodSeconds": 2.5},
    "readiness": {
        "path": "/é?x=%20&y=ü",
        "port": 8000,
        "host": "h",
        "headers": [{"name": "A", "value": "b"}],
    },
    "liveness": {"exec": {"command": ["true", "-x"]}, "initialDelaySeconds": 1, "timeoutSeconds": 3},
}


def key(restarts: int = 0, **changes: Any) -> str:
    return compiled.template(load.from_body(body(**changes)), restarts=restarts).key


def test_what_is_not_said_has_the_cores_defaults() -> None:
    template = compiled.template(load.from_body(body()), restarts=0)
    assert (template.command, template.image, template.ports) == (("python", "app.py"), None, (8000,))
    assert (template.eager, template.drain, template.grace, template.backoff) == (True, 30, 30, Backoff())
    assert (template.workdir, template.probes, template.env) == (None, {}, ())
    assert compiled.strategy(load.from_body(body())) == Strategy()


def test_checks_become_probes() -> None:
    probes = compiled.template(load.from_body(body(healthChecks=CHECKS))).probes
    quoted = HttpAction("/%C3%A9?x=%20&y=%C3%BC", 8000, "h", (("A", "b"),))
    assert probes == {
        ProbeKind.STARTUP: Probe(ProbeKind.STARTUP, HttpAction("up"), period=2.5, failure_threshold=6),
        ProbeKind.READINESS: Probe(ProbeKind.READINESS, quoted),
        ProbeKind.LIVENESS: Probe(ProbeKind.LIVENESS, ExecAction(("true", "-x")), initial_delay=1, timeout=3),
    }


def test_hales_settings_are_taken_over() -> None:
    hale = {
        "strategy": {"maxSurge": 2, "maxUnavailable": "0%", "progressDeadlineSeconds": 5},
        "backoff": {"initialSeconds": 0.5, "maxSeconds": 2, "resetAfterSeconds": 3},
        "drainSeconds": 0,
        "gracePeriodSeconds": 1.5,
        "eager": False,
        "workdir": "/srv/app",
    }
    spec = load.from_body(body(hale=hale))
    template = compiled.template(spec, default_workdir="/elsewhere")
    assert compiled.strategy(spec) == Strategy(Share(2), Share(0, percent=True), 5)
    assert template.backoff == Backoff(0.5, 2, 3)
    assert (template.drain, template.grace, template.eager, template.workdir) == (0, 1.5, False, "/srv/app")
    assert compiled.whole(spec)["hale"] == hale


def test_the_default_folder_stands_in_and_is_no_part_of_the_key() -> None:
    spec = load.from_body(body())
    assert compiled.template(spec, default_workdir="/a").workdir == "/a"
    assert compiled.template(spec, default_workdir="/a").key == compiled.template(spec).key


RESOURCES = {"machineType": "C4", "ports": [8000]}
AUTOSCALING = {"enabled": False, "maxReplicas": 3, "metrics": []}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"enabled": False},
        {"basicAuthKey": "x"},
        {"hale": {"strategy": {"maxSurge": 1}}},
        {"env": []},
        {"apiVersion": "v0alpha1"},
        {"image": ""},
        {"resources": {**RESOURCES, "replicas": 7}},
        {"resources": {**RESOURCES, "autoscaling": AUTOSCALING}},
        {"resources": {**RESOURCES, "ports": [8000.0]}},
    ],
)
def test_running_replicas_do_not_depend_on(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ["python", "b.py"]},
        {"image": "x"},
        {"env": [{"name": "A", "value": "b"}]},
        {"healthChecks": {"liveness": {"path": "/"}}},
        {"hale": {"eager": False}},
        {"hale": {"drainSeconds": 0}},
        {"hale": {"workdir": "/x"}},
        {"hale": {"backoff": {"maxSeconds": 5}}},
        {"resources": {**RESOURCES, "ports": [8001]}},
        {"resources": {**RESOURCES, "machineType": "C5"}},
        {"region": "ny2"},
        {"restarts": 1},
    ],
)
def test_running_replicas_depend_on(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_replicas_of_a_disabled_deployment() -> None:
    resources = {**RESOURCES, "replicas": 3}
    assert compiled.replicas(load.from_body(body())) == 1
    assert compiled.replicas(load.from_body(body(resources=resources))) == 3
    assert compiled.replicas(load.from_body(body(resources=resources, enabled=False))) == 0


def test_a_literal_password_is_masked_and_a_reference_is_not() -> None:
    literal, reference = (load.from_body(body(basicAuthKey=key)) for key in ("hunter2", "secret:KEY"))
    assert compiled.password(literal) == "hunter2"
    assert compiled.password(load.from_body(body())) is None
    assert compiled.whole(literal)["basicAuthKey"] == "***"
    assert compiled.gradient_part(literal)["basicAuthKey"] == "***"
    assert compiled.gradient_part(reference)["basicAuthKey"] == "secret:KEY"
    assert "hunter2" in literal.document()
    with pytest.raises(RefusedError, match="refers to a secret"):
        compiled.password(reference)


def test_the_gradient_part_is_valid_for_gradient_and_has_nothing_of_hale() -> None:
    spec = load.from_body(body(healthChecks=CHECKS, hale={"eager": False}, basicAuthKey="x"))
    part = compiled.gradient_part(spec)
    assert against(part, GRADIENT["spec"]) == []
    assert (part["image"], "hale" in part, part["apiVersion"]) == ("", False, "v1")
    assert (
        load.from_body({**part, "hale": {"eager": False}, "basicAuthKey": "x"}).document() == spec.document()
    )


def test_changed_specs() -> None:
    spec = load.from_body(body())
    changed = spec.changed(replicas=3, enabled=False, workdir="/x")
    assert (changed.resources.replicas, changed.enabled, changed.hale and changed.hale.workdir) == (
        3,
        False,
        "/x",
    )
    assert Spec.from_document(changed.document()).document() == changed.document()
    assert spec.changed().document() == spec.document()
    with pytest.raises(
        SpecError, match=r"resources\.replicas: must be a whole number from 0 to 10000, not -1"
    ):
        spec.changed(replicas=-1)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"name": 5}', "[" * 100_000])
def test_a_document_of_another_hale_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="cannot read the spec"):
        Spec.from_document(text)


REFUSED = """\
basicAuthKey: secret:A
containerRegistry: mine
integrations: [{type: volume, name: v}]
env: [{name: A, value: b}, {name: B, value: "secret:B"}]
healthchecks:
  liveness: {path: /, port: 9000}
"""


def test_everything_that_cannot_be_done_here_is_refused_with_its_place() -> None:
    autoscaling = "  autoscaling: {maxReplicas: 2, metrics: []}\n"
    spec = load.load_text(BASE + autoscaling + REFUSED, format="yaml", filename="app.yaml")
    assert [str(problem) for problem in unsupported.refusals(spec)] == [
        "app.yaml:9:1: integrations: volumes can't be mounted here yet; remove it",
        "app.yaml:8:1: containerRegistry: registry connections are not kept here yet; "
        "remove it, and use a public image or a command",
        "app.yaml:6:3: resources.autoscaling: can't be done here yet; "
        "remove it or set enabled: false; replicas stays",
        "app.yaml:10:38: env[1].value: refers to a secret, and there are no secrets here yet; "
        "write the value itself",
        "app.yaml:7:1: basicAuthKey: refers to a secret, and there are no secrets here yet; "
        "write the value itself",
        "app.yaml:12:23: healthchecks.liveness.port: must be a port of resources.ports (8000), not 9000",
    ]


def test_fields_of_v0alpha0_are_refused_under_their_own_names() -> None:
    text = (
        "name: web\nimage: x\nport: 80\nresources: {instanceType: C4}\nmodels: [{id: m}]\n"
        "repositories: {dataset: d, repositories: [{url: u, name: n}]}\n"
        "healthChecks: {liveness: {path: /, port: 81}}\n"
    )
    spec = load.load_text(text, format="yaml", filename="app.yaml")
    assert [str(problem) for problem in unsupported.refusals(spec)] == [
        "app.yaml:5:1: models: volumes can't be mounted here yet; remove it",
        "app.yaml:6:1: repositories: repositories can't be mounted here yet; remove it",
        "app.yaml:7:36: healthChecks.liveness.port: must be a port of port (80), not 81",
    ]
    assert spec.data()["integrations"] == [{"type": "model", "id": "m", "name": "m"}]


def test_the_mask_is_no_password() -> None:
    spec = load.from_body(body(basicAuthKey="***"))
    assert [problem.path for problem in unsupported.refusals(spec)] == ["basicAuthKey"]


def test_autoscaling_that_is_off_is_no_reason_to_refuse() -> None:
    resources = {**RESOURCES, "autoscaling": AUTOSCALING}
    assert unsupported.refusals(load.from_body(body(resources=resources))) == []


def test_notes_say_what_makes_no_difference() -> None:
    twice = [{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]
    assert unsupported.notes(load.from_body(body(region="ny2", env=twice))) == [
        "resources.machineType and region have no effect here: replicas run on this machine",
        "env has A more than once: the last one counts",
    ]


@pytest.mark.parametrize("version", ["v0alpha1", "v1", "latest", None])
def test_versions_with_the_fields_of_v1_are_v1(version: str | None) -> None:
    config = body() if version is None else body(apiVersion=version)
    assert load.from_body(config).data()["apiVersion"] == "v1"


@pytest.mark.parametrize("version", ["v0alpha0", "latest", None])
def test_versions_with_the_fields_of_v0alpha0_become_v1(version: str | None) -> None:
    config = {"name": "web", "image": "x", "resources": {"instanceType": "C4", "replicas": 2}}
    spec = load.from_body(config if version is None else {**config, "apiVersion": version})
    assert spec.data()["resources"] == {"machineType": "C4", "ports": [80], "replicas": 2}
