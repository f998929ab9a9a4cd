"""Manifests as text: YAML that every reader of YAML takes for the same, or JSON. Pure.

A string stands without quotes only where it begins with a letter or a slash and is no word that some version
of YAML takes for something else; all others are written as in JSON, which YAML includes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hale.kubernetes.names import Object

_PLAIN = re.compile(r"[A-Za-z/](?:[\w./:@%+-]*[\w/%+])?", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_BLOCK = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?\n)(?:(?:[ -~]*[!-~])?\n)*(?:[ -~]*[!-~])\n")
"""Printable lines without blanks at their ends, the first not indented, the last not empty."""
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
"""What YAML does not take as it is, or a terminal would obey."""
_STEP = "  "


def yaml(objects: Iterable[Object], *, ascii_only: bool = False) -> str:
    """One document each."""
    return "".join(
        "---\n" + "".join(f"{line}\n" for line in _mapping(each, "", ascii_only)) for each in objects
    )


def json_list(objects: Iterable[Object], *, ascii_only: bool = False) -> str:
    """One List of all, as `kubectl` reads and writes it."""
    document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    text = json.dumps(document, indent=2, ensure_ascii=ascii_only)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _mapping(value: Mapping[str, object], indent: str, ascii_only: bool) -> Iterator[str]:  # noqa: FBT001
    for key, inner in value.items():
        head = f"{indent}{_string(key, ascii_only)}:"
        nested = isinstance(inner, Mapping)
        if below := list(_below(inner, indent + _STEP if nested else indent, ascii_only)):
            yield head
            yield from below
        else:
            yield from _leaf(head, inner, indent, ascii_only)


def _items(values: Sequence[object], indent: str, ascii_only: bool) -> Iterator[str]:  # noqa: FBT001
    for value in values:
        if below := list(_below(value, indent + _STEP, ascii_only)):
            yield f"{indent}- {below[0].removeprefix(indent + _STEP)}"
            yield from below[1:]
        else:
            yield from _leaf(f"{indent}-", value, indent, ascii_only)


def _below(value: object, indent: str, ascii_only: bool) -> Iterator[str]:  # noqa: FBT001
    """The lines of a collection; none of an empty one, nor of anything else."""
    if isinstance(value, Mapping):
        yield from _mapping(value, indent, ascii_only)
    elif isinstance(value, list | tuple):
        yield from _items(value, indent, ascii_only)


def _leaf(head: str, value: object, indent: str, ascii_only: bool) -> Iterator[str]:  # noqa: FBT001
    if isinstance(value, str) and _BLOCK.fullmatch(value):
        yield f"{head} |"
        yield from _block(value, indent + _STEP)
    else:
        yield f"{head} {_scalar(value, ascii_only)}"


def _block(text: str, indent: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"{indent}{line}" if line else ""


def _scalar(value: object, ascii_only: bool) -> str:  # noqa: FBT001
    """A string, a number, a boolean, or an empty collection."""
    return _string(value, ascii_only) if isinstance(value, str) else json.dumps(value)


def _string(text: str, ascii_only: bool) -> str:  # noqa: FBT001
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = _UNSAFE.sub(_escape, json.dumps(text, ensure_ascii=False))
    return re.sub(r"[^\x00-\x7f]", _escape, quoted) if ascii_only else quoted


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
