"""The versions of Gradient's spec: which one a document is written in, and v0alpha0 turned into v1.

v0alpha1 has the fields of v1. `latest` meant v0alpha0 until June 2023 and means v1 since, and many files
name no version: both are read by their fields.
"""

from collections.abc import Mapping
from typing import Any

from hale.spec.problems import Loc
from hale.spec.schema import Common, Items, Line, Model, Origin, Port, Scaled, Spec

VERSIONS = ("v0alpha0", "v0alpha1", "v1", "latest")
DEFAULT_PORT = 80
"""v0alpha0's `port` when there is none."""

ONLY_V0: Mapping[Loc, str] = {
    ("port",): "write resources.ports: [{value}]",
    ("models",): "write integrations of type model",
    ("repositories",): "write integrations of type git-lfs",
    ("resources", "instanceType"): "write resources.machineType",
}
"""The fields that v0alpha0 alone has, with what v1 has instead."""

ONLY_V1: Mapping[Loc, str] = {
    ("integrations",): "set apiVersion: v1",
    ("basicAuthKey",): "set apiVersion: v1",
    ("healthchecks",): "write healthChecks",
    ("resources", "machineType"): "write resources.instanceType, or set apiVersion: v1",
    ("resources", "ports"): "write port, or set apiVersion: v1",
}

_RENAMED: Mapping[Loc, Loc] = {
    ("integrations",): ("models",),
    ("resources", "ports"): ("port",),
    ("resources", "machineType"): ("resources", "instanceType"),
}

COUNTERPARTS: Mapping[Loc, Loc] = {
    ("port",): ("resources", "ports"),
    ("resources", "ports"): ("port",),
    ("resources", "instanceType"): ("resources", "machineType"),
    ("resources", "machineType"): ("resources", "instanceType"),
}
"""Where one is written for the other, the other is not missed as well."""


class V0Resources(Scaled):
    instance_type: Line


class V0Model(Model):
    id: Line
    path: Line | None = None


class Repository(Model):
    url: Line
    name: Line
    ref: Line | None = None
    username: Line | None = None
    password: Line | None = None


class Repositories(Model):
    dataset: Line
    mount_path: Line | None = None
    repositories: Items[Repository]


class V0Spec(Common):
    """A spec of version v0alpha0."""

    port: Port = DEFAULT_PORT
    models: Items[V0Model] | None = None
    repositories: Repositories | None = None
    resources: V0Resources


def has(document: Mapping[str, Any], loc: Loc) -> bool:
    value: object = document
    for part in loc:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def of(document: Mapping[str, Any]) -> type[V0Spec] | type[Spec]:
    """The version that the document names, or else the one whose own fields it has more of."""
    version = document.get("apiVersion")
    if version == "v0alpha0":
        return V0Spec
    if version in ("v0alpha1", "v1"):
        return Spec
    old = sum(has(document, loc) for loc in ONLY_V0)
    new = sum(has(document, loc) for loc in ONLY_V1)
    return V0Spec if old > new else Spec


def foreign(model: type[Common], loc: Loc, value: object) -> tuple[str, str] | None:
    """For a field that only another version has: what to say, and the hint."""
    if model is Spec and loc in ONLY_V0:
        shown = value if isinstance(value, int) else 8000
        return "is a field of v0alpha0, not of v1", ONLY_V0[loc].format(value=shown)
    if model is V0Spec and loc in ONLY_V1:
        return "is a field of v0alpha1 and v1, not of v0alpha0", ONLY_V1[loc]
    return None


def to_v1(old: V0Spec) -> Spec:
    """The same deployment in v1, which has nothing for `repositories`: the origin remembers them."""
    data = old.model_dump(mode="json", by_alias=True, exclude_none=True)
    port, models = data.pop("port"), data.pop("models", [])
    dropped = ("repositories",) if data.pop("repositories", None) is not None else ()
    data["resources"]["machineType"] = data["resources"].pop("instanceType")
    data["resources"]["ports"] = [port]
    if models:
        data["integrations"] = [{"type": "model", "name": model["id"], **model} for model in models]
    return Spec.model_validate(data).read_from(Origin(renamed=_RENAMED, dropped=dropped))
