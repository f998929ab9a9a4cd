"""Plain words for durations, outcomes and ends. Pure."""

import signal

from hale.core.probe import ProbeResult

_SHOWN = 120
"""Characters of an answer that a sentence carries."""


def duration(seconds: float) -> str:
    """`4 ms`, `1.2 s`, `14 s`, `5 min`, `2.5 h`: short, never more exact than useful."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 7170:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h".replace(".0 h", " h")


def outcome(result: ProbeResult) -> str:
    """`503 in 4 ms: "Readiness check failed."`, `exit 3 in 40 ms`, or why there was no answer."""
    said = result.detail.strip()
    if len(said) > 1 and said[0] == said[-1] == '"':
        said = said[1:-1]  # a JSON string has brought its own quotation marks
    if len(said) > _SHOWN:
        said = said[: _SHOWN - 1] + "…"
    if result.status is None:
        return said or ("ok" if result.ok else "no answer")
    text = f"{'exit ' if result.exited else ''}{result.status} in {duration(result.latency)}"
    return f'{text}: "{said}"' if said else text


def ending(code: int | None, ran_for: str, *, out_of_memory: bool = False, removed: bool = False) -> str:
    """How a process ended: `exited with code 1 after 3 s`, `ended by SIGKILL after 2 min`."""
    if out_of_memory:
        return f"ended by the kernel after {ran_for}: it used up its memory"
    if removed:
        return f"ended after {ran_for}: its container was removed"
    if code is None:
        return f"ended after {ran_for}, its exit code is not known"
    if code >= 0:
        return f"exited with code {code} after {ran_for}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"ended by {name} after {ran_for}"


def size(count: int) -> str:
    """Bytes as people count them: `512 B`, `38 MB`, `1.2 GB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}".replace(".0 ", " ") if value < 9.95 else f"{value:.0f} {unit}"
