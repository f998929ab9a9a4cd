"""Specs found in public, each with the verdict it gets (`files/` has them as they were found)."""

import json
from pathlib import Path

import pytest

from hale.spec import load, unsupported
from hale.spec.compile import gradient_part
from hale.spec.problems import SpecError
from hale.spec.schema import Spec

FILES = Path(__file__).parent / "files"

VALID = {
    "01-paperspace-fastapi-template.yaml": ["resources.autoscaling"],
    "02-paperspace-fastapi-hf-template.yaml": ["resources.autoscaling"],
    "03-paperspace-flask-template.yaml": ["resources.autoscaling"],
    "07-dte-serge.yaml": ["resources.autoscaling"],
    "08-gradient-ai-whisper-autocaption.yaml": ["resources.autoscaling"],
    "13-gradient-ai-sd-webui.yaml": ["resources.autoscaling"],
    "18-assetsathidev1-tuned-fashion.yaml": ["resources.autoscaling"],
    "20-nmb-mpt-125m.yaml": ["resources.autoscaling"],
    "21-paperspace-fastapi-template-v0alpha0.yaml": ["resources.autoscaling"],
    "22-paperspace-fastapi-template-latest-2023-06.yaml": ["resources.autoscaling"],
    "30-joshua-text-to-image.yaml": [],
    "36-stianlaa-byte-barometer-v0alpha0-disabled.json": [],
    "42-paperspace-app-template.jsonc": [],
}
"""The valid ones, with the fields that are refused when they are applied here."""

NO_NAME = "name: is missing; add name to the file, or give --name"

INVALID = {
    "05-jameshskelton-pspace-huggingface.yaml": [
        '12:1: port: must be a whole number, not "7860"; remove the quotes',
    ],
    "06-jameshskelton-hf-w-actions.yaml": [
        "4:1: image: must not be empty (null); give it a value or leave the key out",
        '12:1: port: must be a whole number, not "7860"; remove the quotes',
    ],
    "17-raywang-colby-trash-app-INVALID.yaml": [
        "24:3: resources.instanceType: is a field of v0alpha0, not of v1; write resources.machineType",
        "27:3: resources.ports: must be a list, not 8000; put it in a list",
    ],
    "32-joshua-test-pspace-no-name.yaml": [f"1:1: {NO_NAME}"],
    "34-tlilegume-probable-engine.yaml": [
        "21:3: resources.autoscaling.maxReplicas: is missing",
        "21:3: resources.autoscaling.metrics: is missing",
    ],
    "38-gradient-ai-resnet-fastapi-models.yaml": [f"1:1: {NO_NAME}"],
    "40-gradient-ai-fashion-mnist-models-mapping-INVALID.yaml": [
        f"13:1: {NO_NAME}",
        "15:1: models: must be a list, not a mapping",
    ],
    "50-docs-deployment-spec-reference.yaml": [
        '61:5: healthChecks.liveness: must be a mapping, not "..."',
        '63:5: healthChecks.startup: must be a mapping, not "..."',
    ],
    "51-docs-health-checks-fragment.yaml": [
        "2:1: image: is missing; give an image, or a command to run",
        f"2:1: {NO_NAME}",
        "2:1: resources: is missing",
    ],
    "53-docs-create-streamlit.yaml": [f"1:1: {NO_NAME}"],
}

NAMED = {
    "32-joshua-test-pspace-no-name.yaml": [],
    "38-gradient-ai-resnet-fastapi-models.yaml": ["models"],
    "53-docs-create-streamlit.yaml": [],
}
"""Those that lack a name alone, with the fields that are refused once they have one."""


def test_every_file_has_a_verdict() -> None:
    assert {file.name for file in FILES.iterdir()} == {*VALID, *INVALID}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_file_is_read_and_survives_being_stored(name: str) -> None:
    spec = load.load_file(FILES / name)
    assert [problem.path for problem in unsupported.refusals(spec)] == VALID[name]
    assert Spec.from_document(spec.document()).document() == spec.document()
    assert load.from_body(json.loads(spec.document())).document() == spec.document()


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_refused_with_all_that_is_wrong(name: str) -> None:
    with pytest.raises(SpecError) as error:
        load.load_file(FILES / name)
    assert [str(problem) for problem in error.value.problems] == [
        f"{FILES / name}:{said}" for said in INVALID[name]
    ]


@pytest.mark.parametrize("name", NAMED)
def test_a_file_without_a_name_takes_it_from_outside(name: str) -> None:
    spec = load.load_file(FILES / name, name="given")
    assert spec.name == "given"
    assert [problem.path for problem in unsupported.refusals(spec)] == NAMED[name]


def test_the_same_app_before_and_after_its_migration_to_v1_is_one() -> None:
    old = gradient_part(load.load_file(FILES / "21-paperspace-fastapi-template-v0alpha0.yaml"))
    new = gradient_part(load.load_file(FILES / "01-paperspace-fastapi-template.yaml"))
    assert (old["name"], old["apiVersion"]) == (new["name"], "v1")
    assert old["resources"] == {**new["resources"], "machineType": "A4000"}
    assert old["healthChecks"] == {
        kind: {key: value for key, value in check.items() if key != "port"}
        for kind, check in new["healthChecks"].items()
    }
