"""How far a revision's preparation is: its image pulled, its volumes filled. Pure."""

from textwrap import wrap

from rich.text import Text

from hale.cli import words
from hale.core.image import Preparation, Progress

_BAR = 24
_MOST_LINES = 4
"""Lines that a failure gets in the live view; `hale get` has all of it."""

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def lines(what: Preparation, now: float, width: int) -> list[Text]:
    """For the live view: what is done, and under it a bar, or why it failed and when it is tried again."""
    doing = Text(f"{words.line(what.doing)} {words.lasting(what.since, now)}", "yellow")
    if what.retry_at is None:
        return [doing, Text(f"  {bar(what.progress)}{amount(what)}".rstrip())]
    told = wrap(failure(what, now), max(20, width - 2), max_lines=_MOST_LINES, placeholder=" …")
    return [doing, *(Text(f"  {each}", "red") for each in told)]


def sentence(what: Preparation, now: float, *, known: str = "") -> str:
    """All of it: `pulling web:2 for 12 s: 3 of 5 layers, 41 of 120 MB`. A `known` error is not told again."""
    told = amount(what) if what.retry_at is None else failure(what, now, known=known)
    doing = f"{words.line(what.doing)} {words.lasting(what.since, now)}"
    return f"{doing}: {told}" if told else doing


def failure(what: Preparation, now: float, *, known: str = "") -> str:
    """`tried again in 14 s, after 2 failures: cannot pull …`."""
    count = f", after {words.counted(what.failures, 'failure')}" if what.failures > 1 else ""
    coming = f"tried again {words.left(what.retry_at, now)}{count}"
    return f"{coming}: {words.line(what.error)}" if what.error and what.error != known else coming


def amount(what: Preparation) -> str:
    """`3 of 5 layers, 41 of 120 MB`; what is not known is left out."""
    known, part = what.progress, "layer" if what.doing.startswith("pulling") else "file"
    parts = f"{known.done} of {words.counted(known.total, part)}" if known.total else ""
    return ", ".join(filter(None, [parts, _bytes(known)]))


def _bytes(known: Progress) -> str:
    if not known.bytes_done and not known.bytes_total:
        return ""
    whole = max(known.bytes_done, known.bytes_total)
    unit, scale = next((each for each in _UNITS if whole >= each[1]), _UNITS[-1])
    places = 1 if unit == "GB" else 0
    done = f"{known.bytes_done / scale:.{places}f}"
    return f"{done} of {whole / scale:.{places}f} {unit}" if known.bytes_total else f"{done} {unit}"


def bar(known: Progress) -> str:
    """By bytes, or by parts where these are not known; nothing if there is nothing to go by."""
    done, total = (known.bytes_done, known.bytes_total) if known.bytes_total else (known.done, known.total)
    if total <= 0:
        return ""
    full = _BAR * min(done, total) // total
    tip = ">" if full < _BAR else ""
    return f"[{'=' * full}{tip}".ljust(_BAR + 1, " ") + "]  "
