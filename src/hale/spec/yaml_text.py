"""YAML 1.2 (the core schema) to a tree, straight from parser events: only plain values are made."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from hale.spec.problems import Loc, Problem, kind, path, shown
from hale.spec.tree import MAX_DEPTH, MAX_SIZE, Node, Parsed, Place, line_and_column, syntax_error, too_deep

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|(false|False|FALSE))\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"(?:([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_DIGITS = 400
"""Digits of a number that is still worth converting: 1e400 is past the largest float."""

_CORE = "tag:yaml.org,2002:"
_TAGGED = {"str": "a string", "int": "a number", "float": "a number", "bool": "a boolean", "null": "null"}
_MERGE = "<<"


def parse(text: str, filename: str) -> Parsed:
    """The one document of the text; SpecError for what can't be read as YAML."""
    builder = _Builder(filename)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(str(part) for part in (error.problem, error.context and f"({error.context})") if part)
        raise syntax_error(f"not YAML: {said}", filename, at) from error
    except ReaderError as error:
        at = line_and_column(text, error.position)
        raise syntax_error(f"character {shown(text[error.position])} is not allowed", filename, at) from error
    except (YAMLError, ValueError, OverflowError) as error:
        # An escape like "\UFFFFFFFF" or "\ud800": the parser stops without a mark of its own.
        raise syntax_error(
            "not YAML: an escape that stands for no character", filename, builder.at
        ) from error
    return builder.finished()


@dataclass(slots=True)
class _Open:
    """A collection whose end is not reached yet, with the key that waits for its value."""

    node: Node
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_at: Place = (1, 1)
    merges: list[Node] = field(default_factory=list)


class _Builder:
    """Takes events one by one and puts the tree together; no recursion."""

    def __init__(self, filename: str) -> None:
        self.at: Place = (1, 1)
        self._filename = filename
        self._root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}
        self._problems: list[Problem] = []
        self._documents = 0
        self._depths: list[int] = []

    def take(self, event: Event) -> None:
        self.at = (event.start_mark.line + 1, event.start_mark.column + 1)
        match event:
            case DocumentStartEvent():
                self._document(event)
            case MappingStartEvent() | SequenceStartEvent():
                self._start(event)
            case MappingEndEvent() | SequenceEndEvent():
                self._end()
            case ScalarEvent():
                self._scalar(event)
            case AliasEvent():
                self._alias(event)
            case _:
                pass

    def finished(self) -> Parsed:
        root = self._root or Node(None, (1, 1))
        return Parsed(root, tuple(self._problems))

    def _document(self, event: DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            raise syntax_error(
                "a second document begins here", self._filename, self.at, hint="keep one per file"
            )
        if event.version and tuple(event.version) != (1, 2):
            version = ".".join(str(part) for part in event.version)
            self._problem(
                (), f"YAML {version} is asked for, and YAML 1.2 is what is read", "remove the directive"
            )

    def _start(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise too_deep(self._filename, self.at)
        mapping = isinstance(event, MappingStartEvent)
        if event.tag and event.tag != _CORE + ("map" if mapping else "seq"):
            self._refuse_tag(event.tag)
        if self._waits_for_key():
            raise syntax_error("a key must be a string", self._filename, self.at)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(Node({} if mapping else [], self.at), event.anchor))
        self._depths.append(1)

    def _end(self) -> None:
        done = self._open.pop()
        depth = self._depths.pop()
        self._merge(done)
        if done.anchor:
            self._anchors[done.anchor] = (done.node, done.size, depth)
        self._add(done.node, done.size, depth)

    def _scalar(self, event: ScalarEvent) -> None:
        plain = event.style is None and (event.implicit[0] or event.tag is not None)
        value = _resolve(event.value) if plain else event.value
        if event.tag and event.tag != "!":
            value = self._tagged(event.tag, value, event.value)
        if event.tag == "!":
            value = event.value
        node = Node(value, self.at)
        size = 1 + len(event.value)
        if event.anchor:
            self._anchors[event.anchor] = (node, size, 0)
        if self._waits_for_key():
            merge = plain and event.value == _MERGE and not event.tag
            self._key(event.value if merge else value)
        else:
            self._add(node, size, 0)

    def _alias(self, event: AliasEvent) -> None:
        name = event.anchor
        if name not in self._anchors:
            raise syntax_error(f"alias *{name} has no anchor before it", self._filename, self.at)
        target = self._anchors[name]
        if target is None:
            raise syntax_error(f"alias *{name} stands inside what it repeats", self._filename, self.at)
        node, size, depth = target
        if self._waits_for_key():
            self._key(node.value)
        else:
            self._add(Node(node.value, self.at, node.keys), size, depth)

    def _waits_for_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].node.value, dict) and self._open[-1].key is None

    def _key(self, key: object) -> None:
        top = self._open[-1]
        if isinstance(key, str):
            top.key = key
        elif isinstance(key, dict | list):
            raise syntax_error("a key must be a string", self._filename, self.at)
        else:
            top.key = shown(key)
            self._problem(self._loc(), f"a key must be a string, not {kind(key)}", "quote it")
        top.key_at = self.at
        top.size += len(top.key)

    def _add(self, node: Node, size: int, depth: int) -> None:
        if not self._open:
            self._root = node
            return
        top = self._open[-1]
        top.size += size
        self._depths[-1] = max(self._depths[-1], depth + 1)
        if top.size > MAX_SIZE:
            raise syntax_error("too large once its aliases are expanded", self._filename, self.at)
        if len(self._open) + depth > MAX_DEPTH:
            raise too_deep(self._filename, self.at)
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif isinstance(top.node.value, dict) and top.key is not None:
            self._entry(top, top.node.value, top.key, node)
            top.key = None

    def _entry(self, top: _Open, entries: dict[str, Node], key: str, node: Node) -> None:
        if key == _MERGE:
            top.merges.append(node)
        elif key in entries:
            line, column = top.node.keys[key]
            message = f"is there twice, first at {line}:{column}"
            loc = (*self._loc(), key) if self._open[-1].key is None else self._loc()
            self._problems.append(Problem(path(loc), message, self._filename, *top.key_at, hint="keep one"))
        else:
            entries[key] = node
            top.node.keys[key] = top.key_at

    def _merge(self, done: _Open) -> None:
        """What the mapping says itself wins over what it merges, and the earlier over the later."""
        into = done.node.value
        if not isinstance(into, dict):
            return
        for merged in done.merges:
            for source in merged.value if isinstance(merged.value, list) else [merged]:
                if not isinstance(source.value, dict):
                    self._problem(
                        (*self._loc(), _MERGE), f"can merge mappings only, not {shown(source.plain())}"
                    )
                    continue
                for key, node in source.value.items():
                    if key not in into:
                        into[key] = node
                        done.node.keys[key] = source.keys[key]

    def _tagged(self, tag: str, value: object, text: str) -> object:
        wanted = _TAGGED.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if wanted is None:
            self._refuse_tag(tag)
        elif wanted == "a string":
            return text
        elif wanted != kind(value):
            self._problem(self._loc(), f"{shown(text)} is not {wanted}, as its tag says", "remove the tag")
        return value

    def _refuse_tag(self, tag: str) -> None:
        name = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
        self._problem(
            self._loc(), f"tag {shown(name)[1:-1]} is not allowed", "write plain values, without tags"
        )

    def _loc(self) -> Loc:
        """Where the value that is being read will be."""
        parts: list[str | int] = []
        for level in self._open:
            if isinstance(level.node.value, list):
                parts.append(len(level.node.value))
            elif level.key is not None:
                parts.append(level.key)
        return tuple(parts)

    def _problem(self, loc: Iterable[str | int], message: str, hint: str = "") -> None:
        self._problems.append(Problem(path(loc), message, self._filename, *self.at, hint=hint))


def _resolve(text: str) -> object:
    """A plain scalar by the core schema of YAML 1.2: `yes` is a string, `0777` a decimal number."""
    if _NULL.match(text):
        return None
    if found := _BOOL.match(text):
        return not found.group(1)
    if _INT.match(text):
        return _number(text)
    if _FLOAT.match(text):
        return float(text)
    if found := _SPECIAL.match(text):
        return float("nan") if found.group(1) is None else float(found.group(1) + "inf")
    return text


def _number(text: str) -> int | float:
    if len(text) > _DIGITS:
        return float("-inf" if text.startswith("-") else "inf")
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text, 10)
