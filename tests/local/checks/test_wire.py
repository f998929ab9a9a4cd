"""Deadlines in virtual time: in order, to the moment, and no matter what happens to the others."""

import asyncio
from collections.abc import Callable

import pytest

from hale.local.checks.wire import Lane


class Waiting:
    def __init__(self, call: Callable[[], None]) -> None:
        self.expired = call


def note(times: list[float]) -> Waiting:
    loop = asyncio.get_running_loop()
    return Waiting(lambda: times.append(round(loop.time(), 6)))


async def test_each_deadline_falls_when_its_time_is_over() -> None:
    lane, times = Lane(asyncio.get_running_loop(), 1.0), list[float]()
    for pause in (0.0, 0.25, 0.5):
        await asyncio.sleep(pause)
        lane.add(note(times))
    await asyncio.sleep(10)
    assert times == [1.0, 1.25, 1.75]


async def test_a_discarded_deadline_does_not_fall() -> None:
    lane, times = Lane(asyncio.get_running_loop(), 1.0), list[float]()
    members = [note(times) for _ in range(3)]
    for member in members:
        lane.add(member)
        await asyncio.sleep(0.25)
    lane.discard(members[0])
    lane.discard(members[1])
    lane.discard(members[1])
    await asyncio.sleep(10)
    assert times == [1.5]


async def test_a_lane_that_was_empty_is_used_again() -> None:
    lane, times = Lane(asyncio.get_running_loop(), 1.0), list[float]()
    lane.add(note(times))
    await asyncio.sleep(5)
    lane.add(note(times))
    await asyncio.sleep(5)
    assert times == [1.0, 6.0]


async def test_a_deadline_set_by_another_one_falls_after_it() -> None:
    lane, times = Lane(asyncio.get_running_loop(), 1.0), list[float]()
    again = note(times)
    lane.add(Waiting(lambda: (lane.add(again), None)[1]))
    await asyncio.sleep(0.5)
    lane.add(note(times))
    await asyncio.sleep(10)
    assert times == [1.5, 2.0]


async def test_deadlines_after_one_that_raises_fall_all_the_same() -> None:
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    lane, times = Lane(loop, 1.0), list[float]()

    def fail() -> None:
        raise LookupError

    lane.add(Waiting(fail))
    lane.add(note(times))
    await asyncio.sleep(10)
    assert (times, [type(error) for error in raised]) == ([1.0], [LookupError])


async def test_a_closed_lane_is_silent() -> None:
    lane, times = Lane(asyncio.get_running_loop(), 1.0), list[float]()
    lane.add(note(times))
    lane.close()
    await asyncio.sleep(10)
    assert times == []


@pytest.mark.parametrize("count", [1000])
async def test_one_timer_serves_them_all(count: int) -> None:
    loop = asyncio.get_running_loop()
    lane, times = Lane(loop, 1.0), list[float]()
    for _ in range(count):
        lane.add(note(times))
    await asyncio.sleep(2)
    assert times == [1.0] * count
