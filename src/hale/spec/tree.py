"""A document as read from text: values that know where they stand, and limits that hold in every format."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hale.spec.problems import Loc, Problem, SpecError, path

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
"""Levels of nesting. A spec has seven."""
MAX_SIZE = 2 * MAX_BYTES
"""Values plus characters once aliases are expanded; a file without aliases can't get there."""

Place = tuple[int, int]
"""Line and column, from 1."""


@dataclass(slots=True)
class Node:
    """A value and where it begins. `keys` says where the keys of a mapping stand.

    `value` is a scalar (or, from TOML, a date or time), a list of nodes, or a dict of strings to nodes.
    """

    value: object
    at: Place
    keys: dict[str, Place] = field(default_factory=dict)

    def plain(self) -> object:
        """The value alone, as JSON has it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, part: str | int) -> "Node | None":
        found: object = None
        if isinstance(self.value, dict):
            found = self.value.get(part)
        elif isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            found = self.value[part]
        return found if isinstance(found, Node) else None

    def place(self, loc: Loc) -> Place:
        """Where the key or item at `loc` stands, or else the nearest thing around it."""
        node, at = self, self.at
        for part in loc:
            found = node.child(part)
            if found is None:
                return at
            at = node.keys.get(part, found.at) if isinstance(part, str) else found.at
            node = found
        return at


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document came from: a file and its tree, or neither (a REST body)."""

    file: str | None = None
    root: Node | None = None

    def problem(self, loc: Loc, message: str, hint: str = "") -> Problem:
        """A problem with the place of its field."""
        line, column = self.root.place(loc) if self.root else (None, None)
        return Problem(path(loc), message, self.file, line, column, hint)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document and what is already known to be wrong with it (a duplicate key, a tag)."""

    root: Node
    problems: tuple[Problem, ...] = ()


def syntax_error(message: str, filename: str, at: Place, *, hint: str = "") -> SpecError:
    """The text can't be read at all; one problem, at one place."""
    return SpecError([Problem("", message, filename, *at, hint=hint)], doing="read")


def too_deep(filename: str, at: Place) -> SpecError:
    return syntax_error(f"nested more than {MAX_DEPTH} levels deep", filename, at)


def line_and_column(text: str, index: int) -> Place:
    """The place of a character. Lines end as editors show it: LF, CRLF or CR."""
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def values(value: object) -> Iterator[tuple[Loc, object]]:
    """Every value of a plain document with its place; no recursion, so any depth will do."""
    pending: list[tuple[Loc, object]] = [((), value)]
    while pending:
        loc, here = pending.pop()
        yield loc, here
        if len(loc) >= MAX_DEPTH:
            continue
        if isinstance(here, dict):
            pending.extend(((*loc, key), inner) for key, inner in here.items())
        elif isinstance(here, list):
            pending.extend(((*loc, index), inner) for index, inner in enumerate(here))
