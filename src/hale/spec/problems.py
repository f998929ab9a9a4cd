"""What is wrong with a spec: each problem with its place, its field, what was found, what is allowed."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hale.errors import RefusedError

Loc = tuple[str | int, ...]
"""Where a value is in a document: keys and indices from the top."""

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*\Z")
_SHOWN = 60
_LISTED = 100
"""Problems that the message has; `problems` has all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. Line and column count from 1; `path` is "" for the whole document."""

    path: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{text}; {self.hint}" if self.hint else text


class SpecError(RefusedError):
    """The spec can't be used as it stands. `problems` has all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem], *, doing: str = "use") -> None:
        self.problems = tuple(problems)
        where = next((problem.file for problem in problems if problem.file), None) or "the spec"
        if len(problems) == 1:
            super().__init__(f"cannot {doing} the spec: {problems[0]}")
        else:
            lines = [f"\n  {problem}" for problem in problems[:_LISTED]]
            if len(problems) > _LISTED:
                lines.append(f"\n  and {len(problems) - _LISTED} more")
            super().__init__(f"cannot {doing} {where}: {len(problems)} problems{''.join(lines)}")


def path(loc: Iterable[str | int]) -> str:
    """`healthChecks.liveness.path`, `env[2].value`; a key that is not a plain word is quoted."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.match(part) and len(part) <= _SHOWN:
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def shown(value: object) -> str:
    """The value as a person would write it, on one line and not too long."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        text = json.dumps(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…", ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = (
        str(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "a number that is too large"
    )
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def kind(value: object) -> str:
    """What sort of value it is, where the value itself is not to be shown."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", dict: "a mapping"}
    return names.get(type(value), "a list" if isinstance(value, list | tuple) else "a date or time")
