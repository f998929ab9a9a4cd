"""How commands print: data on stdout, talk on stderr, nothing that a terminal would obey.

Piped output is as wide as it needs to be and has no colour and no trailing blanks.
"""

import io
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.words import clean
from hale.errors import HaleError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hale.cli.answers import JSON

_PIPED_WIDTH = 100_000
_POWERFUL = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Controls of terminals and of the direction of text."""


def prepare() -> None:
    """Make the standard streams take whatever is written, also when closed or not of UTF-8."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 # until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(*, width: int | None = None) -> "Console":
    """Standard output. Text from outside is never read as markup."""
    from rich.console import Console  # noqa: PLC0415 # slow to import

    made = Console(markup=False, emoji=False, highlight=False, width=width)
    if not made.is_terminal and width is None:
        made.width = _PIPED_WIDTH
    return made


def show(*renderables: "RenderableType") -> None:
    """Print a screen, fitted to the terminal or, in a pipe, in full."""
    out = console()
    if out.is_terminal:
        for each in renderables:
            out.print(each)
        return
    with out.capture() as captured:
        for each in renderables:
            out.print(each)
    for text in captured.get().splitlines():
        print_line(text.rstrip())


def print_line(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def print_json(document: "JSON") -> None:
    """One document; of several, each on its own line."""
    print_line(_json(document, indent=2))


def print_json_line(document: "JSON") -> None:
    print_line(_json(document))


def _json(document: "JSON", *, indent: int | None = None) -> str:
    text = json.dumps(document, indent=indent, ensure_ascii=not speaks_utf8())
    # JSON leaves these as they are; outside of strings there are none of them.
    return _POWERFUL.sub(lambda char: f"\\u{ord(char[0]):04x}", text)


def speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def say(text: str) -> None:
    """A word to the person at the keyboard. A terminal that is gone is no reason to stop."""
    with suppress(OSError, ValueError):
        sys.stderr.write("\n".join(map(clean, text.split("\n"))) + "\n")
        sys.stderr.flush()


def print_error(error: HaleError, issues: Sequence[str] = ()) -> None:
    say(f"error: {error.message}")
    for issue in issues:
        say(f"  {issue}")
    if error.hint:
        say(f"hint: {error.hint}")


def flush() -> None:
    sys.stdout.flush()


def finish() -> None:
    """Write out what is left, if anybody still reads it."""
    try:
        flush()
    except (OSError, ValueError):
        close_pipe()


def close_pipe() -> None:
    """Nobody reads what we print: let the interpreter end without a word about it."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
