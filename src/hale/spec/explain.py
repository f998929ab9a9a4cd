"""What pydantic found, in our words: the field as written, what was found, what is allowed, a hint."""

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hale.spec import dialects
from hale.spec.masks import MASK
from hale.spec.problems import Loc, Problem, kind, shown
from hale.spec.schema import Common, ExecCheck, HttpCheck
from hale.spec.tree import Source

_SECRET = frozenset({"value", "basicAuthKey", "accessKeyId", "secretAccessKey", "password"})

_ELSEWHERE = {
    "livenessProbe": "write healthChecks.liveness",
    "readinessProbe": "write healthChecks.readiness",
    "startupProbe": "write healthChecks.startup",
    "httpGet": "its path, port, host and headers stand directly in the check",
    "httpHeaders": "write headers",
    "successThreshold": "one success is always enough; remove it",
    "tcpSocket": "checks are HTTP (path) or exec (exec.command)",
    "grpc": "checks are HTTP (path) or exec (exec.command)",
    "scheme": "checks are plain HTTP; remove it",
    "terminationGracePeriodSeconds": "write hale.gracePeriodSeconds",
    "strategy": "write hale.strategy",
    "workdir": "write hale.workdir",
    "workingDir": "write hale.workdir",
    "args": "write one list, command",
    "entrypoint": "write one list, command",
    "containerPort": "write resources.ports",
    "ports": "write resources.ports",
    "replicas": "write resources.replicas",
    "containers": "this is not a Kubernetes manifest: write image or command at the top",
    "autoscaling": "write resources.autoscaling",
    "machineType": "write resources.machineType",
    "instanceType": "write resources.machineType",
    "backoff": "write hale.backoff",
    "drainSeconds": "write hale.drainSeconds",
    "gracePeriodSeconds": "write hale.gracePeriodSeconds",
    "eager": "write hale.eager",
    "kind": "this is not a Kubernetes manifest; remove it",
    "metadata": "this is not a Kubernetes manifest: write name at the top",
    "spec": "this is not a Kubernetes manifest: its fields stand at the top",
}
"""Words of Kubernetes, and of ours in the wrong place, that no likeness would lead to the right one."""

_UNQUOTED = re.compile(r"true|false|[-+]?\d+(\.\d+)?", re.IGNORECASE | re.ASCII)
"""What is a number or a boolean without its quotes."""

_USER = re.compile(r"\S*@")
"""What may be the user and password of a url, though it is none."""

_LONG = 200
"""Characters of a command that is still shown as a list."""

_TYPES = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
}

_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
}

_PATTERNS = {
    "secretAccessKey": "a reference to a secret, like secret:NAME",
    "url": "an address, like https://host/repository for git-lfs or s3://bucket/ for s3",
    "endpoint": "an address like https://bucket.region.digitaloceanspaces.com",
}


def problems(
    error: ValidationError,
    model: type[Common],
    document: Mapping[str, Any],
    source: Source,
) -> Iterator[Problem]:
    """One problem for each of pydantic's errors, except those that only follow from another."""
    found = error.errors(include_url=False)
    written = {_loc(details) for details in found if details["type"] == "extra_forbidden"}
    for details in found:
        loc = _loc(details)
        if details["type"] == "missing" and dialects.COUNTERPARTS.get(loc) in written:
            continue
        loc, message, hint = _explain(details, loc, model, document)
        yield source.problem(loc, message, hint)


def _loc(details: ErrorDetails) -> Loc:
    """The place without the marks of unions. An unknown key may look like one; it is the last part."""
    unknown = details["type"] == "extra_forbidden"
    outer, last = details["loc"][:-1], details["loc"][-1:]
    return (
        *(part for part in outer if not _is_tag(part)),
        *(part for part in last if unknown or not _is_tag(part)),
    )


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("#")


def _explain(
    details: ErrorDetails, loc: Loc, model: type[Common], document: Mapping[str, Any]
) -> tuple[Loc, str, str]:
    what, value, context = details["type"], details.get("input"), details.get("ctx", {})
    if what == "extra_forbidden":
        return (loc, *_unknown(details, loc, model, document))
    if what == "missing":
        return (loc, *_missing(details, loc, model))
    if what == "choice":
        return _choice(loc, value, *details["msg"].split(": ", 1))
    return (loc, *_wrong(what, loc, value, details, context))


def _wrong(
    what: str, loc: Loc, value: object, details: ErrorDetails, context: Mapping[str, Any]
) -> tuple[str, str]:
    """The errors about a value that is there: what it must be, what it is, a hint."""
    must = _must(what, loc, context, details["msg"])
    if must:
        hint = _as_list(value) if loc[-1:] == ("command",) else ""
        return f"must be {must}, not {_shown(loc, value)}", hint or _type_hint(what, value)
    if what == "null":
        return "must not be empty (null)", "give it a value or leave the key out"
    if what in ("string_too_short", "too_short"):  # the latter where another rule of ours comes before
        return "must not be empty", ""
    return details["msg"], ""


def _must(what: str, loc: Loc, context: Mapping[str, Any], message: str) -> str:
    """What a value must be, where that and the value found say it all."""
    if what in _LIMITS:
        word, key = _LIMITS[what]
        return f"{word} {context[key]:.12g}"
    if what == "literal_error":
        return str(context["expected"]).replace("'", "")
    if what == "string_pattern_mismatch":
        return _PATTERNS[str(loc[-1])]
    return message if what == "needed" else _TYPES.get(what, "")


def _as_list(command: object) -> str:
    """How a command that is one string is written as a list."""
    try:
        words = shlex.split(command) if isinstance(command, str) and len(command) < _LONG else []
    except ValueError:
        words = []
    return f"write {json.dumps(words, ensure_ascii=False)}" if words else ""


def _type_hint(what: str, value: object) -> str:
    if what == "string_type" and isinstance(value, int | float):
        return "quote it"
    if what in ("int_type", "float_type", "bool_type") and isinstance(value, str):
        if value.lower() in ("yes", "no", "on", "off"):
            return "YAML 1.2 has true and false only"
        return "remove the quotes" if _UNQUOTED.fullmatch(value.strip()) else ""
    return "put it in a list" if what == "tuple_type" and isinstance(value, str | int) else ""


def _shown(loc: Loc, value: object) -> str:
    """The value found, unless it may be a secret."""
    keys = [part for part in loc if isinstance(part, str)]
    secret = bool(keys) and keys[-1] in _SECRET and "autoscaling" not in keys
    if isinstance(value, str) and keys[-1:] == ["url"]:
        value = _USER.sub(f"{MASK}@", value)
    return kind(value) if secret else shown(value)


def _missing(details: ErrorDetails, loc: Loc, model: type[Common]) -> tuple[str, str]:
    if loc == ("name",):
        return "is missing", "add name to the file, or give --name"
    if _owner(details, model) is HttpCheck:
        return "is missing", "a check needs path (HTTP) or exec.command"
    return "is missing", ""


def _choice(loc: Loc, value: object, key: str, allowed: str) -> tuple[Loc, str, str]:
    if not isinstance(value, dict):
        return loc, f"must be a mapping, not {_shown(loc, value)}", ""
    inner = (*loc, key)
    if key not in value:
        return inner, "is missing", f"it is one of {allowed}"
    found = value[key]
    near = difflib.get_close_matches(found, allowed.split(", "), 1, 0.5) if isinstance(found, str) else []
    hint = f"did you mean {near[0]}?" if near else ""
    return inner, f"must be one of {allowed}, not {shown(found)}", hint


def _unknown(
    details: ErrorDetails, loc: Loc, model: type[Common], document: Mapping[str, Any]
) -> tuple[str, str]:
    key = str(loc[-1])
    if said := dialects.foreign(model, loc, details.get("input")):
        return said
    if loc == ("healthchecks",) and "healthChecks" in document:
        return "is there beside healthChecks, and means the same", "keep one of them"
    owner = _owner(details, model)
    if owner is ExecCheck and key in _keys(HttpCheck):
        return "belongs to an HTTP check, and this one has exec", "keep one of the two"
    known = _keys(owner)
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), lower, 1, 0.75)
    if near:
        return "unknown key", f"did you mean {lower[near[0]]}?"
    hint = _ELSEWHERE.get(key, "")
    if not hint:
        near = difflib.get_close_matches(key.lower(), lower, 1, 0.6)
        hint = f"did you mean {lower[near[0]]}?" if near else f"allowed here: {', '.join(known)}"
    return "unknown key", hint


def _keys(owner: type[BaseModel]) -> list[str]:
    return [str(field.serialization_alias or field.alias) for field in owner.model_fields.values()]


def _owner(details: ErrorDetails, model: type[BaseModel]) -> type[BaseModel]:
    """The model that the last part of the error's place is a key of."""
    parts = [part for part in details["loc"][:-1] if isinstance(part, str)]
    candidates = [model]
    for part in parts:
        if _is_tag(part):
            candidates = [candidate for candidate, tag in _tagged(candidates) if tag == part]
            continue
        owner = candidates[0]
        inner = next((f for f in owner.model_fields.values() if _spelt(f, part)), None)
        candidates = list(_models(inner)) if inner else []
        if not candidates:
            return owner
    return candidates[0] if candidates else model


def _spelt(field: Any, key: str) -> bool:  # a FieldInfo, whose aliases are loosely typed
    return key in (field.alias, field.serialization_alias) or key in getattr(
        field.validation_alias, "choices", ()
    )


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # annotations are any object
    inner = getattr(annotation, "annotation", None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif inner is not None:
        yield from _models(inner)
    for argument in get_args(annotation):
        yield from _models(argument)


def _tagged(candidates: list[type[BaseModel]]) -> Iterator[tuple[type[BaseModel], str]]:
    for candidate in candidates:
        yield candidate, _TAGS.get(candidate.__name__, "")


_TAGS = {
    "HttpCheck": "#http",
    "ExecCheck": "#exec",
    "DurationMetric": "#duration",
    "UsageMetric": "#usage",
    "GitLfs": "#git-lfs",
    "S3": "#s3",
    "Spaces": "#spaces",
    "StoredModel": "#model",
    "Volume": "#volume",
}
