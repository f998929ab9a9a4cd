"""Two loops: virtual time, unless a test is marked `real_time` or `e2e`: it talks to something real."""

import asyncio
import selectors
from collections.abc import Callable, Mapping

import pytest
import uvloop


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout is None:
            return ready or super().select(timeout)
        self.skipped += max(0.0, timeout)
        return ready


class AutojumpLoop(asyncio.SelectorEventLoop):
    """A loop that skips waiting: an hour of sleeping passes at once."""

    def __init__(self) -> None:
        self._jump = _Selector()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.skipped


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("real_time") or item.get_closest_marker("e2e"):
        return {"uvloop": uvloop.new_event_loop}
    return {"virtual": AutojumpLoop}
