"""JSON with comments (and trailing commas) to a tree."""

import json
import re
from dataclasses import dataclass, field

from hale.spec.problems import Loc, Problem, path, shown
from hale.spec.tree import MAX_DEPTH, Node, Parsed, Place, syntax_error, too_deep

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*(?:[^*]|\*(?!/))*\*/)*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_WORDS = {"true": True, "false": False, "null": None}
_DIGITS = 400
_LINE_END = re.compile(r"\r\n|\n|\r")


def parse(text: str, filename: str) -> Parsed:
    """The one value of the text; SpecError for what can't be read as JSON."""
    reader = _Reader(text, filename)
    if reader.peek() == "":
        return Parsed(Node(None, (1, 1)))
    root = reader.value(())
    if reader.peek():
        raise reader.error(f"nothing may follow the end, and here is {reader.found()}")
    return Parsed(root, tuple(reader.problems))


@dataclass(slots=True)
class _Reader:
    """Recursive descent, at most MAX_DEPTH deep; `position` is the next character to read."""

    text: str
    filename: str
    position: int = 0
    problems: list[Problem] = field(default_factory=list)
    _line: int = 1
    _line_start: int = 0
    _counted: int = 0

    def peek(self) -> str:
        """The next character after space and comments, or "" at the end."""
        found = _SPACE.match(self.text, self.position)
        self.position = found.end() if found else self.position
        if self.text.startswith("/*", self.position):
            raise self.error("a comment that has no end")
        return self.text[self.position : self.position + 1]

    def value(self, loc: Loc) -> Node:
        if len(loc) > MAX_DEPTH:
            raise too_deep(self.filename, self.place())
        match self.peek():
            case "{":
                return self._object(loc)
            case "[":
                return self._array(loc)
            case '"':
                at = self.place()
                return Node(self._string(), at)
            case _:
                return self._scalar()

    def error(self, message: str) -> Exception:
        return syntax_error(f"not JSON: {message}", self.filename, self.place())

    def found(self) -> str:
        return shown(self.text[self.position]) if self.position < len(self.text) else "the end of the file"

    def place(self) -> Place:
        """Where `position` is; counts on from the last place asked for."""
        for end in _LINE_END.finditer(self.text, self._counted, self.position):
            self._line += 1
            self._line_start = end.end()
        self._counted = self.position
        return self._line, self.position - self._line_start + 1

    def _object(self, loc: Loc) -> Node:
        entries: dict[str, Node] = {}
        node = Node(entries, self.place())
        self.position += 1
        while self.peek() != "}":
            at = self.place()
            if self.peek() != '"':
                raise self.error(f'a key in double quotes or "}}" must stand here, not {self.found()}')
            key = self._string()
            if self.peek() != ":":
                raise self.error(f'":" must stand here, not {self.found()}')
            self.position += 1
            inner = self.value((*loc, key))
            if key in entries:
                line, column = node.keys[key]
                message = f"is there twice, first at {line}:{column}"
                self.problems.append(Problem(path((*loc, key)), message, self.filename, *at, hint="keep one"))
            else:
                entries[key] = inner
                node.keys[key] = at
            self._separator("}")
        self.position += 1
        return node

    def _array(self, loc: Loc) -> Node:
        items: list[Node] = []
        node = Node(items, self.place())
        self.position += 1
        while self.peek() != "]":
            items.append(self.value((*loc, len(items))))
            self._separator("]")
        self.position += 1
        return node

    def _separator(self, end: str) -> None:
        here = self.peek()
        if here == ",":
            self.position += 1
        elif here != end:
            raise self.error(f'"," or "{end}" must stand here, not {self.found()}')

    def _string(self) -> str:
        found = _STRING.match(self.text, self.position)
        if not found:
            raise self.error("a string that has no end on its line")
        try:
            value = str(json.loads(found.group()))
        except ValueError as error:
            raise self.error("a string with an escape that JSON does not have") from error
        self.position = found.end()
        return value

    def _scalar(self) -> Node:
        at = self.place()
        if found := _NUMBER.match(self.text, self.position):
            self.position = found.end()
            whole = found.group(1) is None and found.group(2) is None and len(found.group()) <= _DIGITS
            return Node(int(found.group()) if whole else float(found.group()), at)
        word = _WORD.match(self.text, self.position)
        if word and word.group() in _WORDS:
            self.position = word.end()
            return Node(_WORDS[word.group()], at)
        raise self.error(f"a value must stand here, not {shown(word.group()) if word else self.found()}")
