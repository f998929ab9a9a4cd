"""Specs to start from, and what a text comes to."""

from typing import Any

from hale.spec import load
from hale.spec.problems import SpecError

BASE = """\
name: web
command: [python, app.py]
resources:
  machineType: C4
  ports: [8000]
"""


def body(**changes: Any) -> dict[str, Any]:
    """A small valid body, with changes."""
    resources = {"machineType": "C4", "ports": [8000]}
    return {"name": "web", "command": ["python", "app.py"], "resources": resources, **changes}


def problems(text: str | bytes, kind: str = "yaml") -> list[str]:
    """Everything that is wrong with a text, as it is shown; [] if nothing is."""
    try:
        load.load_text(text, format=kind, filename=f"app.{kind}")
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []
