"""Waiting for a condition, in tests that talk to something real."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    *,
    within: float = 60.0,
    what: str | Callable[[], object] = "",
    every: float = 0.05,
) -> T:
    """The first true answer of `condition`; an assertion that names the last one after `within` seconds.

    `what` says what was waited for; a function is asked when it did not come.
    """
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            said = what() if callable(what) else what or condition
            raise AssertionError(f"not within {within:g} s: {said}; last answer: {answer!r}")
        time.sleep(every)
