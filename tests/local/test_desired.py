"""What a revision asks for on this machine, and whether it is prepared."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hale.core.deployment import Deployment, Desired, Machine, Revision
from hale.core.secret import Secret
from hale.core.volume import Mount, Source
from hale.local.desired import Compiler, gone_down
from tests.core.given import replica

WEB = Deployment("d1", "p", "web", "web", 1.0)
IMAGE = {"image": "reg.test/web:2"}
DATA = {"integrations": [{"name": "data", "type": "s3", "url": "s3://models/1/"}]}


def folder(deployment_id: str, source: Source) -> str:
    return f"/volumes/{deployment_id}/{source.name}"


COMPILER = Compiler(folder, {"C4": Machine("C4", 4.0, 8 << 30)})


def revision(number: int = 1, **others: Any) -> Revision:
    """Fields of a revision, and of the spec where it has none; `pinned` is the revision's image."""
    known = {"secrets", "prepared_at", "applied_at"}
    pinned = others.pop("pinned", None)
    spec = {
        "apiVersion": "v1",
        "name": "web",
        "command": ["serve"],
        "resources": {"machineType": "C4", "replicas": 2, "ports": [80]},
        **{name: value for name, value in others.items() if name not in known},
    }
    made = Revision(f"s{number}", "d1", number, json.dumps(spec), 10.0, image=pinned)
    return replace(made, **{name: value for name, value in others.items() if name in known})


def desired(newest: Revision, deployment: Deployment = WEB, not_before: float = 0.0) -> Desired:
    return COMPILER.desired(deployment, newest, not_before=not_before)


NONE = {"resources": {"machineType": "C4", "replicas": 0, "ports": [80]}}


@pytest.mark.parametrize(
    ("given", "prepared"),
    [
        pytest.param({}, True, id="a process needs nothing"),
        pytest.param(IMAGE, False, id="an image"),
        pytest.param({**IMAGE, "image": "reg.test/web@sha256:a"}, False, id="an image by its digest"),
        pytest.param({**IMAGE, "hale": {"pull": "never"}}, False, id="one that has to be here"),
        pytest.param(DATA, False, id="a volume"),
        pytest.param({**IMAGE, **DATA, "prepared_at": 20.0}, True, id="all is here"),
        pytest.param({**IMAGE, "enabled": False}, True, id="disabled"),
        pytest.param({**IMAGE, **NONE}, True, id="no replicas"),
    ],
)
def test_what_is_to_be_prepared(given: dict[str, Any], prepared: bool) -> None:
    assert desired(revision(**given)).prepared is prepared


def test_what_is_deleted_or_goes_down_needs_nothing() -> None:
    newest = revision(**IMAGE)
    assert desired(newest, replace(WEB, deleted_at=5.0)).prepared
    assert gone_down(desired(newest)).prepared


def test_a_revision_of_an_older_hale_goes_on_as_before() -> None:
    """Its replicas have the key of a spec with nothing pinned, nor mounted."""
    newest = revision(env=[{"name": "A", "value": "1"}], applied_at=11.0)
    wanted = desired(newest)
    assert (wanted.prepared, wanted.template.pinned, wanted.template.mounts) == (True, None, ())
    assert wanted.template.key == "69da8a0e09cfcf3f7a8a839effe4eaacff81d1f70907144397b748c7d0ba5750.0"
    assert COMPILER.templates([newest], [wanted.template.key]) == {wanted.template.key: wanted.template}


@pytest.mark.parametrize(
    ("given", "not_before", "since"),
    [
        ({}, 0.0, 10.0),
        ({}, 99.0, 99.0),
        (IMAGE, 0.0, 10.0),
        ({**IMAGE, "prepared_at": 50.0}, 0.0, 50.0),
        ({**IMAGE, "prepared_at": 5.0}, 0.0, 10.0),
        ({**IMAGE, "prepared_at": 50.0}, 99.0, 99.0),
    ],
)
def test_progress_is_waited_for_from_when_it_could_begin(
    given: dict[str, Any], not_before: float, since: float
) -> None:
    assert desired(revision(**given), not_before=not_before).since == since


def test_what_was_pulled_is_in_the_template_and_its_key() -> None:
    keys = {
        desired(revision(**IMAGE, pinned=image)).template.key
        for image in (None, "reg.test/web@sha256:a", "reg.test/web@sha256:b")
    }
    assert len(keys) == 3


def test_a_secret_changes_the_template_when_it_was_set_anew() -> None:
    env = [{"name": "KEY", "value": "secret:KEY"}]
    one = Secret("KEY", "s3cret", 1.0, 1.0)
    two = replace(one, value="t0psecret", modified_at=2.0)
    first, second = (desired(revision(env=env, secrets=(each,))).template for each in (one, two))
    assert (first.env, second.env) == ((("KEY", "s3cret"),), (("KEY", "t0psecret"),))
    assert first.key != second.key
    assert "s3cret" not in repr(first)


def test_volumes_are_mounted_from_where_they_are() -> None:
    template = desired(revision(**DATA)).template
    assert template.mounts == (Mount("data", "/volumes/d1/data", "/opt/integrations/data"),)
    old = replica(revision=1, template="of another hale")
    assert COMPILER.template([revision(**DATA)], old) == replace(template, key="of another hale")
    assert COMPILER.templates([revision(**DATA)], [template.key])[template.key] == template


def test_machine_types_stand_for_their_limits() -> None:
    assert desired(revision()).template.machine == Machine("C4", 4.0, 8 << 30)


def test_volumes_that_were_written_to_are_known_of_every_revision() -> None:
    cache = {"integrations": [{"name": "cache", "type": "volume"}, *DATA["integrations"]]}
    revisions = [revision(3), revision(2, **DATA), revision(1, **cache)]
    assert COMPILER.written(revisions) == {"cache"}
