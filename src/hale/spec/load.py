"""Text or a parsed body to a Spec. Everything that is wrong comes out as one SpecError, with all of it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hale.errors import NotFoundError
from hale.spec import dialects, explain, json_text, toml_text, yaml_text
from hale.spec.problems import Problem, SpecError, kind, shown
from hale.spec.schema import Spec
from hale.spec.tree import MAX_BYTES, MAX_DEPTH, Parsed, Source, line_and_column, syntax_error, values

_SUFFIXES = ("yaml", "yml", "json", "jsonc", "toml")
NAMES = tuple(
    f"{stem}.{suffix}" for stem in ("hale", "paperspace", ".paperspace/app") for suffix in _SUFFIXES
)
"""The file names that `find` looks for, in order."""

_PARSERS: Mapping[str, Callable[[str, str], Parsed]] = {
    "yaml": yaml_text.parse,
    "yml": yaml_text.parse,
    "json": json_text.parse,
    "jsonc": json_text.parse,
    "toml": toml_text.parse,
}

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LARGEST = 2**63
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def find(folder: Path) -> Path:
    """The spec of a folder: the first of NAMES that is there."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    message = (
        f"cannot find a spec in {folder}: there is no hale.yaml, paperspace.yaml or .paperspace/app.yaml"
    )
    raise NotFoundError(message, hint="name the file, or go to the folder that has it")


def home(file: Path) -> Path:
    """The folder that a spec file speaks for: its own, or the one around `.paperspace`."""
    folder = file.absolute().parent
    return folder.parent if folder.name == ".paperspace" else folder


def load_file(file: Path, *, name: str | None = None) -> Spec:
    """The spec of a file. A relative `hale.workdir` is taken from the file's folder."""
    suffix = file.suffix.removeprefix(".").lower() or "yaml"
    if suffix not in _PARSERS:
        raise _unreadable(file, f"its name ends in .{suffix}, and a spec is .yaml, .json, .jsonc or .toml")
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(file, why) from error
    return _load(text, suffix, str(file), name, home(file))


def load_text(text: bytes | str, *, format: str, filename: str, name: str | None = None) -> Spec:  # noqa: A002
    """The spec of a text in a format: yaml, json, jsonc or toml."""
    if format not in _PARSERS:
        raise SpecError([Problem("", f"{shown(format)} is not a format of specs", filename)], doing="read")
    return _load(text, format, filename, name, None)


def from_body(config: object) -> Spec:
    """The spec of a parsed JSON body."""
    return _spec(config, Source(), (), None, None)


def _load(text: bytes | str, suffix: str, filename: str, name: str | None, folder: Path | None) -> Spec:
    parsed = _PARSERS[suffix](_decode(text, filename), filename)
    return _spec(parsed.root.plain(), Source(filename, parsed.root), parsed.problems, name, folder)


def _decode(text: bytes | str, filename: str) -> str:
    """The text, if it is text at all and of a sane size."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise syntax_error(f"larger than {MAX_BYTES // 1024} KiB", filename, (1, 1))
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line_and_column(raw[: error.start].decode("utf-8"), error.start)
        message = f"not UTF-8: byte 0x{raw[error.start]:02x}"
        raise syntax_error(message, filename, at, hint="save the file as UTF-8") from error
    decoded = decoded.removeprefix("\ufeff")
    if found := _CONTROL.search(decoded):
        at = line_and_column(decoded, found.start())
        raise syntax_error(f"control character U+{ord(found.group()):04X}", filename, at)
    return decoded


def _spec(
    document: object, source: Source, known: Sequence[Problem], name: str | None, folder: Path | None
) -> Spec:
    """The spec, or everything that is wrong: for the parser, as JSON, and by the schema."""
    if not isinstance(document, dict):
        what = "is empty" if document is None else f"must be a mapping, not {shown(document)}"
        raise SpecError([source.problem((), f"the spec {what}")])
    found = [*known, *_not_json(document, source)]
    if any(problem.message == _TOO_DEEP for problem in found):
        raise SpecError(found)
    document = _prepared(document, name, folder)
    found += _across(document, source)
    model = dialects.of(document)
    try:
        written = model.model_validate({key: value for key, value in document.items() if key != "apiVersion"})
    except ValidationError as error:
        found += explain.problems(error, model, document, source)
    if found:
        raise SpecError(_sorted(found))
    spec = dialects.to_v1(written) if isinstance(written, dialects.V0Spec) else written
    return spec.read_from(replace(spec.origin, source=source))


def _prepared(document: Mapping[str, Any], name: str | None, folder: Path | None) -> dict[str, Any]:
    """The document as it is validated: without `$schema`, with the name and the folder from outside."""
    prepared = {key: value for key, value in document.items() if key != "$schema"}
    if name is not None:
        prepared["name"] = name
    own = prepared.get("hale")
    if folder and isinstance(own, dict) and isinstance(own.get("workdir"), str) and own["workdir"]:
        prepared["hale"] = {**own, "workdir": str(folder / own["workdir"])}
    return prepared


def _across(document: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """What no single field shows: the version, and that there is something to run."""
    version = document.get("apiVersion", "v1")
    if not isinstance(version, str) or version not in dialects.VERSIONS:
        message = f"must be one of {', '.join(dialects.VERSIONS)}, not {shown(version)}"
        yield source.problem(("apiVersion",), message)
    if document.get("image", "") == "" and document.get("command", []) == []:
        yield source.problem(("image",), "is missing", "give an image, or a command to run")


def _not_json(document: object, source: Source) -> Iterator[Problem]:
    """Values that no spec has in any place, and nesting that would not end well."""
    for loc, value in values(document):
        message = _why_not_json(value)
        if len(loc) >= MAX_DEPTH:
            message = _TOO_DEEP
        if message:
            yield source.problem(loc, message)
        if len(loc) >= MAX_DEPTH:
            return


def _why_not_json(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return "must be a number of a sensible size, not one past 64 bits"
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return "must have strings for keys"
    if value is None or isinstance(value, str | bool | int | float | list | dict):
        return ""
    return f"must be a string or a number, not {kind(value)}"


def _sorted(found: list[Problem]) -> list[Problem]:
    """In the order of the file, one for each field (the first is the most basic)."""
    first: dict[tuple[str, int | None, int | None], Problem] = {}
    for problem in found:
        first.setdefault((problem.path, problem.line, problem.column), problem)
    return sorted(first.values(), key=lambda problem: (problem.line or 0, problem.column or 0))


def _unreadable(file: Path, why: str) -> SpecError:
    return SpecError([Problem("", why, str(file))], doing="read")
