"""Specs and their manifests, in full, to review by eye.

`GOLDEN=rewrite pytest tests/kubernetes/test_golden.py` writes them anew.
"""

import os
from pathlib import Path

import pytest

from hale.kubernetes.manifests import Rendered, render
from hale.kubernetes.settings import Settings, read
from hale.kubernetes.written import yaml
from hale.spec.load import load_file
from tests.kubernetes.cluster import VERSIONS, wrong

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(path.name.removesuffix(".spec.yaml") for path in FOLDER.glob("*.spec.yaml"))


def rendered(case: str) -> Rendered:
    file = FOLDER / f"{case}.settings.yaml"
    settings = read(file.read_bytes(), file.name) if file.exists() else Settings()
    return render(load_file(FOLDER / f"{case}.spec.yaml"), settings)


def text(found: Rendered) -> str:
    """The manifests below what is told of them."""
    notes = [": ".join(filter(None, (note.path, note.message, note.hint))) for note in found.notes]
    told = [*notes, *map(str, found.secrets)]
    return "".join(f"# {line}\n" for line in told) + yaml(found.objects)


def test_there_are_cases() -> None:
    assert {"awkward", "disabled", "hello", "iris", "model", "volumes"} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_manifests(case: str) -> None:
    found = rendered(case)
    expected = FOLDER / f"{case}.yaml"
    if os.environ.get("GOLDEN") == "rewrite":
        expected.write_text(text(found))
    assert text(found).splitlines() == expected.read_text().splitlines()
    for version in VERSIONS:
        assert wrong(found.objects, version) == []
