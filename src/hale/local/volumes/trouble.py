"""What keeps a volume from being filled: the words of programs, in ours. Pure."""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hale.core.volume import Source
from hale.errors import PreparationError

_LONGEST = 300
_MASK = "***"
_USER = re.compile(r"(?<=//)[^/\s'\"]*@")
"""Of a url among other words."""


class Event(StrEnum):
    DENIED = "volume.denied"
    NOT_FOUND = "volume.not_found"
    UNREACHABLE = "volume.unreachable"
    DISK_FULL = "volume.disk_full"
    FAILED = "volume.failed"


_FATAL = (Event.DENIED, Event.NOT_FOUND)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM = "make room on the disk of hale's data folder, or give it another one with --data"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What some words of a program mean. `why` says it better than the program does ("": it does not)."""

    pattern: re.Pattern[str]
    event: Event
    why: str = ""
    hint: str = ""
    fatal: bool | None = None


def trouble(
    pattern: str, event: Event, why: str = "", hint: str = "", *, fatal: bool | None = None
) -> Trouble:
    return Trouble(re.compile(pattern, re.IGNORECASE), event, why, hint, fatal)


DISK_FULL = trouble(
    r"no space left on device|remaining disk space|disk quota exceeded|not enough (free )?space",
    Event.DISK_FULL,
    "no space left on the disk",
    _ROOM,
)


def told(
    troubles: Sequence[Trouble],
    lines: Sequence[str],
    words: str,
    *secrets: str | None,
    name: str | None = None,
) -> "Failure":
    """The first of the troubles that any line tells of; `words` is what the program says of it itself.

    In these no secret is shown, wherever it stands, no user of a url, no `name` that is a word of its own.
    """
    words = _shown(words, secrets, name)
    for each in troubles:
        if any(each.pattern.search(line) for line in lines):
            fatal = each.event in _FATAL if each.fatal is None else each.fatal
            return Failure(each.event, each.why or words, each.hint, fatal=fatal)
    return Failure(Event.FAILED, words)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why it can't be done, and what can be."""

    event: Event
    why: str
    hint: str = ""
    fatal: bool = False

    def error(self, source: Source, place: str) -> PreparationError:
        """`place` is where the content is fetched from, without a secret."""
        what = f"fill volume {source.name} from {place}" if place else f"make volume {source.name}"
        return PreparationError(
            f"cannot {what}: {self.why}", event=self.event, fatal=self.fatal, hint=self.hint
        )


def of_system(error: OSError) -> Failure:
    """What the system says."""
    if error.errno in _FULL:
        return Failure(DISK_FULL.event, DISK_FULL.why, DISK_FULL.hint)
    why = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else ""
    return Failure(Event.FAILED, f"{where}{why[:1].lower()}{why[1:]}")


def _shown(words: str, secrets: Sequence[str | None], name: str | None) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be a part of another
        words = words.replace(secret, _MASK)
    words = _USER.sub(f"{_MASK}@", words)
    if name:
        words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _MASK, words)
    words = " ".join(words.split()).rstrip(".")[:_LONGEST] or "it ended without a word"
    return words[:1].lower() + words[1:]
