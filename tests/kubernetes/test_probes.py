"""Health checks as probes."""

from typing import Any

import pytest

from hale.kubernetes.manifests import render
from hale.spec.load import load_text
from tests.kubernetes.cluster import container, said
from tests.kubernetes.cluster import given as rendered

DEFAULTS = {
    "initialDelaySeconds": 0,
    "periodSeconds": 10,
    "timeoutSeconds": 1,
    "failureThreshold": 3,
    "successThreshold": 1,
}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def probes(**checks: Any) -> dict[str, Any]:
    found = container(rendered({"healthChecks": checks}))
    return {name: found[name] for name in PROBES if name in found}


def test_every_default_is_written_out() -> None:
    get = {"httpGet": {"path": "/x", "port": 8000, "scheme": "HTTP"}}
    ended = {"terminationGracePeriodSeconds": 35}
    assert probes(startup={"path": "/x"}, readiness={"path": "/x"}, liveness={"path": "/x"}) == {
        "startupProbe": get | DEFAULTS | ended,
        "readinessProbe": get | DEFAULTS,
        "livenessProbe": get | DEFAULTS | ended,
    }


def test_every_field_is_mapped() -> None:
    check = {
        "path": "/ready?deep=1",
        "port": 9000,
        "host": "10.0.0.1",
        "headers": [
            {"name": "Host", "value": "a"},
            {"name": "X", "value": ""},
            {"name": "X", "value": "$(Y)"},
        ],
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "timeoutSeconds": 1,
        "failureThreshold": 4,
    }
    assert probes(readiness=check)["readinessProbe"] == {
        "httpGet": {
            "path": "/ready?deep=1",
            "port": 9000,
            "scheme": "HTTP",
            "host": "10.0.0.1",
            "httpHeaders": check["headers"],
        },
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "timeoutSeconds": 1,
        "failureThreshold": 4,
        "successThreshold": 1,
    }


@pytest.mark.parametrize(
    ("path", "made"), [("ready", "/ready"), ("?x", "/?x"), ("/ü", "/%C3%BC"), ("/a%20b", "/a%20b")]
)
def test_a_path_is_what_hale_itself_asks_for(path: str, made: str) -> None:
    assert probes(startup={"path": path})["startupProbe"]["httpGet"]["path"] == made


def test_a_command_is_run_as_it_is() -> None:
    command = ["sh", "-c", "test $STATE = $(cat f) $$"]
    (probe,) = probes(startup={"exec": {"command": command}}).values()
    assert probe["exec"]["command"] == ["sh", "-c", "test $$STATE = $$(cat f) $$$$"]


@pytest.mark.parametrize(
    ("checks", "names"),
    [
        ({}, ["readinessProbe"]),
        ({"liveness": {"path": "/"}}, ["readinessProbe", "livenessProbe"]),
        ({"startup": {"path": "/"}}, ["startupProbe"]),
        ({"readiness": {"path": "/"}}, ["readinessProbe"]),
    ],
)
def test_without_startup_and_readiness_the_first_port_has_to_be_open(
    checks: dict[str, Any], names: list[str]
) -> None:
    found = probes(**checks)
    assert list(found) == names
    by_connection = "tcpSocket" in found.get("readinessProbe", {})
    assert by_connection == (not {"startup", "readiness"} & checks.keys())


def test_the_first_port_is_asked_by_the_defaults() -> None:
    assert probes() == {"readinessProbe": {"tcpSocket": {"port": 8000}} | DEFAULTS}


def test_no_check_gets_less_time_than_is_written() -> None:
    check = {"path": "/", "initialDelaySeconds": 0.1, "periodSeconds": 1.0, "timeoutSeconds": 1.5}
    found = rendered({"healthChecks": {"liveness": check}})
    probe = container(found)["livenessProbe"]
    assert [probe[name] for name in ("initialDelaySeconds", "periodSeconds", "timeoutSeconds")] == [1, 1, 2]
    assert list(said(found)) == [
        "healthChecks.liveness.initialDelaySeconds",
        "healthChecks.liveness.timeoutSeconds",
    ]


def test_a_timeout_longer_than_the_period_is_noted_with_what_it_can_take() -> None:
    found = rendered(
        {"healthChecks": {"liveness": {"path": "/", "timeoutSeconds": 30, "failureThreshold": 2}}}
    )
    assert "60 s may pass" in said(found)["healthChecks.liveness.timeoutSeconds"]


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("localhost", "the node itself"),
        ("127.0.0.2", "the node itself"),
        ("[::1]", "the node itself"),
        ("db.internal", "that address"),
    ],
)
def test_a_host_is_dialled_from_the_node_and_that_is_noted(host: str, where: str) -> None:
    found = rendered({"healthChecks": {"startup": {"path": "/", "host": host}}})
    assert f"{host} is {where} there" in said(found)["healthChecks.startup.host"]
    assert container(found)["startupProbe"]["httpGet"]["host"] == host.strip("[]")


OLD = """\
name: old
image: web@sha256:00
healthchecks:
  liveness: {path: /, timeoutSeconds: 1.5}
resources:
  machineType: weird
  ports: [80]
"""


def test_a_note_has_the_place_and_the_field_as_it_is_written() -> None:
    found = render(load_text(OLD, format="yaml", filename="old.yaml"))
    assert [str(note).partition(":  ")[0].split(": ")[:2] for note in found.notes] == [
        ["old.yaml:4:23", "healthchecks.liveness.timeoutSeconds"],
        ["old.yaml:6:3", "resources.machineType"],
    ]
