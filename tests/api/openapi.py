"""Checks JSON against the part of OpenAPI 3.0 that Gradient's schemas use."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

GRADIENT = json.loads((Path(__file__).parent / "gradient.json").read_text())
"""The schemas of 200 answers by `METHOD /path`; `spec` is a v1 spec as `data` holds it."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
}


def assert_answers(operation: str, value: object) -> None:
    """The value is what Gradient's schema says of this operation's answer, null and extra keys included."""
    assert problems(value, GRADIENT["answers"][operation]) == []


def problems(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    if value is None and schema.get("nullable"):
        return []
    if "$ref" in schema:
        return problems(value, GRADIENT[schema["$ref"]], at)
    if "anyOf" in schema:
        found = [problems(value, each, at) for each in schema["anyOf"]]
        return [] if [] in found else min(found, key=len)
    wanted = _TYPES[schema["type"]]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        return [f"{at}: {value!r} is no {schema['type']}"]
    check = {"object": _object, "array": _array, "string": _string}.get(schema["type"], _plain)
    return check(value, schema, at)


def _object(value: dict[str, Any], schema: dict[str, Any], at: str) -> list[str]:
    known, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, each in value.items():
        if name in known:
            found += problems(each, known[name], f"{at}.{name}")
        elif extra is False:
            found.append(f"{at}: {name} is not known")
        elif isinstance(extra, dict):
            found += problems(each, extra, f"{at}.{name}")
    return found


def _array(value: list[Any], schema: dict[str, Any], at: str) -> list[str]:
    return [text for n, each in enumerate(value) for text in problems(each, schema["items"], f"{at}[{n}]")]


def _string(value: str, schema: dict[str, Any], at: str) -> list[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9):
        return [f"{at}: {value!r} has a wrong length"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{at}: {value!r} does not match {schema['pattern']}"]
    if schema.get("format") == "uuid":
        UUID(value)
    if schema.get("format") == "date-time":
        datetime.fromisoformat(value)
    return _plain(value, schema, at)


def _plain(value: Any, schema: dict[str, Any], at: str) -> list[str]:
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is none of {schema['enum']}"]
    if "minimum" in schema and (value, not schema.get("exclusiveMinimum")) < (schema["minimum"], True):
        return [f"{at}: {value!r} is less than {schema['minimum']}"]
    if "maximum" in schema and value > schema["maximum"]:
        return [f"{at}: {value!r} is more than {schema['maximum']}"]
    return []
