"""Reads what nobody may see: from a pipe, or from a terminal without echo; never from the arguments."""

import sys
from getpass import getpass

from hale.errors import RefusedError


def value(what: str, doing: str) -> str:
    """`what` is asked for; of a pipe one newline at the end is cut. Empty is refused."""
    stdin = sys.stdin
    if stdin is not None and stdin.isatty():
        given = _typed(what)
    else:
        given = "" if stdin is None else _piped(stdin.buffer.read(), what, doing)
    if not given:
        raise RefusedError(
            f"cannot {doing}: the {what} is empty",
            hint=f"type it when asked, or give it on standard input: `hale … < file-with-the-{what}`",
        )
    return given


def _typed(what: str) -> str:
    try:
        return getpass(f"{what}: ", sys.stderr)
    except EOFError:
        return ""


def _piped(raw: bytes, what: str, doing: str) -> str:
    try:
        return raw.decode().removesuffix("\n")
    except UnicodeDecodeError:
        # The error holds what was read: it goes no further.
        raise RefusedError(f"cannot {doing}: the {what} is not UTF-8", hint="encode it as base64") from None
