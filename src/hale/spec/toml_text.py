"""TOML to a tree: tomllib reads the values, a scan of the (then valid) text finds where they stand."""

import re
import tomllib

from hale.spec.problems import Loc
from hale.spec.tree import MAX_DEPTH, Node, Parsed, Place, line_and_column, syntax_error, too_deep

_AT = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
_NOTHING = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'", re.DOTALL
)
_OTHER = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")
_MAX_DOTS = 500
"""Dots of one key that tomllib is still asked to read; it needs quadratic time for more."""
_BETWEEN = re.compile(r"[^={,\n]+")


def parse(text: str, filename: str) -> Parsed:
    """The document of the text; SpecError for what can't be read as TOML."""
    for part in _BETWEEN.finditer(text):
        if part.group().count(".") > _MAX_DOTS:
            raise too_deep(filename, line_and_column(text, part.start()))
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        said = _AT.match(str(error))
        message = (said.group(1) if said else "a value that can't be read").strip()
        at = (int(said[2]), int(said[3])) if said and said[2] else line_and_column(text, len(text))
        raise syntax_error(f"not TOML: {message[:1].lower()}{message[1:]}", filename, at) from error
    except RecursionError as error:
        raise too_deep(filename, (1, 1)) from error
    places = _Locator(text).places()
    return Parsed(_node(document, (), (1, 1), places, filename))


def _node(value: object, loc: Loc, at: Place, places: dict[Loc, Place], filename: str) -> Node:
    if len(loc) > MAX_DEPTH:
        raise too_deep(filename, at)
    at = places.get(loc, at)
    if isinstance(value, dict):
        inner = {key: _node(item, (*loc, key), at, places, filename) for key, item in value.items()}
        return Node(inner, at, {key: places.get((*loc, key), at) for key in inner})
    if isinstance(value, list):
        return Node([_node(item, (*loc, i), at, places, filename) for i, item in enumerate(value)], at)
    return Node(value, at)


class _Locator:
    """Walks over text that is known to be valid TOML and notes where each key and item stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._places: dict[Loc, Place] = {}
        self._lengths: dict[Loc, int] = {}
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def places(self) -> dict[Loc, Place]:
        table: Loc = ()
        while self._next():
            if self._next() == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._places

    def _next(self) -> str:
        found = _NOTHING.match(self._text, self._position)
        self._position = found.end() if found else self._position
        return self._text[self._position : self._position + 1]

    def _place(self) -> Place:
        self._line += self._text.count("\n", self._counted, self._position)
        newline = self._text.rfind("\n", self._counted, self._position)
        self._line_start = self._line_start if newline < 0 else newline + 1
        self._counted = self._position
        return self._line, self._position - self._line_start + 1

    def _header(self) -> Loc:
        at = self._place()
        array = self._text.startswith("[[", self._position)
        self._position += 2 if array else 1
        loc: Loc = ()
        keys = self._keys()
        for number, key in enumerate(keys):
            loc = (*loc, key)
            self._places.setdefault(loc, at)
            if array and number == len(keys) - 1:
                self._lengths[loc] = self._lengths.get(loc, 0) + 1
            if loc in self._lengths:
                loc = (*loc, self._lengths[loc] - 1)
                self._places.setdefault(loc, at)
        self._position += 2 if array else 1
        return loc

    def _pair(self, table: Loc) -> None:
        at = self._place()
        loc = table
        for key in self._keys():
            loc = (*loc, key)
            self._places.setdefault(loc, at)
        self._position += 1  # the "="
        self._value(loc)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while found := _KEY.match(self._text, self._position):
            self._position = found.end()
            word = found.group(1)
            keys.append(word if word[0] not in "\"'" else str(tomllib.loads(f"k={word}")["k"]))
            if not self._text.startswith(".", self._position):
                break
            self._position += 1
        return keys

    def _value(self, loc: Loc) -> None:
        match self._next():
            case "[":
                self._items(loc)
            case "{":
                self._position += 1
                while self._next() != "}":
                    self._pair(loc)
                    self._comma()
                self._position += 1
            case _:
                found = _STRING.match(self._text, self._position) or _OTHER.match(self._text, self._position)
                self._position = found.end() if found else len(self._text)

    def _items(self, loc: Loc) -> None:
        self._position += 1
        count = 0
        while self._next() != "]":
            self._places[(*loc, count)] = self._place()
            self._value((*loc, count))
            self._comma()
            count += 1
        self._position += 1

    def _comma(self) -> None:
        if self._next() == ",":
            self._position += 1
