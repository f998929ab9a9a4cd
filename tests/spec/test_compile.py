"""A spec as the core and as clients have it."""

from typing import Any

import pytest

from hale.core.backoff import Backoff
from hale.core.deployment import Pull, Share, Strategy
from hale.core.probe import ExecAction, HttpAction, Probe, ProbeKind
from hale.spec import compile as compiled
from hale.spec import load
from hale.spec.problems import SpecError
from hale.spec.schema import Spec
from tests.api.openapi import GRADIENT
from tests.api.openapi import problems as against
from tests.spec.specs import body

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


def key(**changes: Any) -> str:
    return compiled.template(load.from_body(body(**changes))).key


def test_what_is_not_said_has_the_cores_defaults() -> None:
    template = compiled.template(load.from_body(body()))
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
        "pull": "always",
    }
    spec = load.from_body(body(hale=hale))
    template = compiled.template(spec)
    assert compiled.strategy(spec) == Strategy(Share(2), Share(0, percent=True), 5)
    assert template.backoff == Backoff(0.5, 2, 3)
    assert (template.drain, template.grace, template.eager, template.workdir) == (0, 1.5, False, "/srv/app")
    assert template.pull is Pull.ALWAYS
    assert compiled.whole(spec)["hale"] == hale


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
        {"containerRegistry": "mine"},
    ],
)
def test_running_replicas_depend_on(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


ALL_OF_IT = {
    "name": "web",
    "image": "app:1",
    "command": ["python", "app.py"],
    "containerRegistry": "mine",
    "env": [{"name": "A", "value": "b"}],
    "basicAuthKey": "x",
    "resources": {"machineType": "C4", "ports": [8000], "replicas": 2},
    "healthChecks": {"readiness": {"path": "/r"}},
    "hale": {"strategy": {"maxSurge": 1}, "eager": False},
}


@pytest.mark.parametrize(
    ("config", "stored"),
    [
        (body(), "d938529caf9d4668bfb88890b8888774b9763c9cebc50f0630a5984c8c5af118"),
        (ALL_OF_IT, "3440c54fece1e32180dabc7468794b0c68ba2819b7d1ee63799e7cb958dc22d0"),
    ],
)
def test_an_upgrade_of_hale_replaces_no_replica(config: dict[str, Any], stored: str) -> None:
    """Keys that the first version made, as they are in databases."""
    assert compiled.template(load.from_body(config)).key == stored


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:hunter2@git.example.com/m#main", "https://***@git.example.com/m#main"),
        ("https://a-token@git.example.com/m", "https://***@git.example.com/m"),
        ("HTTP://ada:hunt@er2@git.example.com:8080/m", "HTTP://***@git.example.com:8080/m"),
        ("ssh://git:hunter2@git.example.com/m", "ssh://***@git.example.com/m"),
        ("ssh://git@git.example.com/m", "ssh://git@git.example.com/m"),
        ("https://git.example.com/m@v1", "https://git.example.com/m@v1"),
        ("file:///srv/models/m", "file:///srv/models/m"),
    ],
)
def test_a_repositorys_url_is_shown_without_who_asks(url: str, shown: str) -> None:
    model = {"type": "git-lfs", "name": "model", "url": url}
    spec = load.from_body(body(integrations=[model, {"type": "volume", "name": "state"}]))
    for document in (compiled.whole(spec), compiled.gradient_part(spec)):
        assert [each.get("url") for each in document["integrations"]] == [shown, None]
    assert compiled.template(spec).sources[0].url == url


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


@pytest.mark.parametrize("version", ["v0alpha1", "v1", "latest", None])
def test_versions_with_the_fields_of_v1_are_v1(version: str | None) -> None:
    config = body() if version is None else body(apiVersion=version)
    assert load.from_body(config).data()["apiVersion"] == "v1"


@pytest.mark.parametrize("version", ["v0alpha0", "latest", None])
def test_versions_with_the_fields_of_v0alpha0_become_v1(version: str | None) -> None:
    config = {"name": "web", "image": "x", "resources": {"instanceType": "C4", "replicas": 2}}
    spec = load.from_body(config if version is None else {**config, "apiVersion": version})
    assert spec.data()["resources"] == {"machineType": "C4", "ports": [80], "replicas": 2}
