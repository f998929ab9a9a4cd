"""`$NAME` and `${NAME}` in commands and variables. Pure.

`$$` is a literal `$`; a name that is not known stays as it is written.
"""

import re
from collections.abc import Mapping

from hale.errors import EngineError

LONGEST = 128 << 10
"""Characters of a word or value: the kernel takes no longer ones, and doubling ones would fill the memory."""

_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})", re.ASCII
)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with the variables put in; what is put in is not looked at again.

    EngineError if it becomes longer than LONGEST.
    """
    parts: list[str] = []
    size = end = 0
    for found in _REFERENCE.finditer(text):
        parts += (text[end : found.start()], _value(found, variables))
        size += len(parts[-1]) + len(parts[-2])
        end = found.end()
        if size > LONGEST:
            break
    parts.append(text[end:])
    if size + len(parts[-1]) > LONGEST:
        raise EngineError(
            f"cannot expand {text[:40]!r}: it becomes longer than {LONGEST >> 10} KiB",
            hint="shorten the variables that it uses",
        )
    return "".join(parts)


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["escaped"]:
        return "$"
    return variables.get(found["plain"] or found["braced"], found[0])
