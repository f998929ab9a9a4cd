"""Names of deployments, and the slugs that stand for them in host names and folders. Pure."""

import hashlib
import re
from collections.abc import Collection

from hale.errors import RefusedError

MAX_NAME = 255
MAX_SLUG = 40

_OTHER = re.compile(r"[^a-z0-9]+")
_ID = re.compile(r"d[0-9a-f]{32}")
_HASH = 8


def why_not(name: str) -> str:
    """What is wrong with the name, as the end of "a name must be …"; "" if nothing is."""
    if not 1 <= len(name) <= MAX_NAME:
        return f"1 to {MAX_NAME} characters long, not {len(name)}"
    if not name.isprintable():
        wrong = next(character for character in name if not character.isprintable())
        return f"printable text, without the character U+{ord(wrong):04X}"
    return ""


def check_name(name: str) -> str:
    """The name itself, or RefusedError: printable text of 1 to 255 characters."""
    if wrong := why_not(name):
        raise RefusedError(f"cannot use this name: it must be {wrong}")
    return name


def slug(name: str, taken: Collection[str]) -> str:
    """A DNS label for the name that is not in `taken`: lower case, `-` for other characters, 40 at most.

    A short hash is added where two would collide, nothing would be left, or it would look like an id
    (`d` and 32 hex digits).
    """
    base = _OTHER.sub("-", name.lower()).strip("-")[:MAX_SLUG].rstrip("-")
    if base and base not in taken and not _ID.fullmatch(base):
        return base
    head = base[: MAX_SLUG - _HASH - 1].rstrip("-")
    attempt = 0
    while True:
        seed = f"{name}\0{attempt}" if attempt else name
        digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
        candidate = f"{head}-{digest}" if head else digest
        if candidate not in taken and not _ID.fullmatch(candidate):
            return candidate
        attempt += 1
