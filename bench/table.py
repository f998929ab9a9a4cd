"""Figures and their limits, as a table for people or JSON for machines."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ok` says whether it keeps the limit that `limit` tells in words; None: it has none."""

    name: str
    value: float
    unit: str
    limit: str = ""
    ok: bool | None = None


def figure(name: str, value: float, unit: str) -> Row:
    """A figure without a limit of its own, to compare others with."""
    return Row(name, value, unit)


def at_most(name: str, value: float, unit: str, limit: float) -> Row:
    return Row(name, value, unit, f"at most {limit:g}", value <= limit)


def at_least(name: str, value: float, unit: str, limit: float) -> Row:
    return Row(name, value, unit, f"at least {limit:g}", value >= limit)


def as_json(parts: Iterable[tuple[str, Sequence[Row]]]) -> str:
    rows = [{"part": part, **asdict(row)} for part, rows in parts for row in rows]
    return json.dumps(rows, indent=2)


def as_text(part: str, rows: Sequence[Row]) -> str:
    """One part as aligned lines under its name."""
    cells = [(row.name, _number(row.value), row.unit, row.limit, _mark(row)) for row in rows]
    a, b, c, d = (max(len(cell[column]) for cell in cells) for column in range(4))
    lines = [
        f"  {name:<{a}}  {value:>{b}} {unit:<{c}}  {limit:<{d}}  {mark}".rstrip()
        for name, value, unit, limit, mark in cells
    ]
    return "\n".join([part, *lines])


def _number(value: float) -> str:
    """Three digits that matter, but never an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _mark(row: Row) -> str:
    return "" if row.ok is None else "ok" if row.ok else "MISSED"
