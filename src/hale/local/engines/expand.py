"""`$NAME` and `${NAME}` in commands and variables. Pure.

`$$` is a literal `$`; a name that is not known stays as it is written.
"""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})", re.ASCII
)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with the variables put in; what is put in is not looked at again."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        return variables.get(found["plain"] or found["braced"], found[0])

    return _REFERENCE.sub(value, text)
