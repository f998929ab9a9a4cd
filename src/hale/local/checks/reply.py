"""How a check tells what it found: once, unless it was cancelled."""

from collections.abc import Callable

from hale.clock import stopwatch
from hale.core.probe import ProbeResult
from hale.local.checks.connection import own_trouble, words

Report = Callable[[ProbeResult], None]


class Reply:
    """The one result of a check that began at `at`."""

    __slots__ = ("_at", "_began", "_eager", "_report")

    def __init__(self, report: Report, at: float, *, eager: bool) -> None:
        self._report: Report | None = report
        self._at = at
        self._eager = eager
        self._began = stopwatch()

    @property
    def open(self) -> bool:
        """Whether somebody still waits for it."""
        return self._report is not None

    def cancel(self) -> None:
        self._report = None

    def elapsed(self) -> float:
        return stopwatch() - self._began

    def give(
        self,
        *,
        ok: bool,
        detail: str,
        status: int | None = None,
        latency: float | None = None,
        warning: str = "",
        exited: bool = False,
    ) -> None:
        """Report it, if it is still open."""
        report, self._report = self._report, None
        if report is not None:
            took = self.elapsed() if latency is None else latency
            report(ProbeResult(self._at, ok, took, status, detail, self._eager, warning, exited))

    def fail(self, detail: str) -> None:
        self.give(ok=False, detail=detail)

    def unreachable(self, error: OSError) -> None:
        """There was no connection. If that says nothing about the other side, the warning says so."""
        reason = words(error)
        own = own_trouble(error)
        self.give(ok=False, detail=reason, warning=f"cannot make a check: {reason}" if own else "")
