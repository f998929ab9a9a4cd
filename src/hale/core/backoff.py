"""How long before the nth restart. Pure.

The first restart comes at once, then 10 s doubling to 300 s (Kubernetes' numbers, without its
rounding to syncs); a replica that ran well for 600 s begins anew.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The policy. All values are seconds."""

    initial: float = 10.0
    maximum: float = 300.0
    reset_after: float = 600.0

    def delay(self, failures: int) -> float:
        """Seconds between the exit and the start after the `failures`-th failure in a row (1 = the first)."""
        if failures <= 1:
            return 0.0
        # 2**1000 is still a float; beyond it the maximum has long been reached.
        return min(self.maximum, self.initial * 2.0 ** min(failures - 2, 1000))

    def failures_after(self, failures: int, ran_for: float) -> int:
        """The failures in a row after one more exit of a replica that had run for `ran_for` seconds."""
        return 1 if ran_for >= self.reset_after else failures + 1
