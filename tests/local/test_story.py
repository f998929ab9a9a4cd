"""What events say beside those of the core."""

from collections.abc import Mapping

import pytest

from hale.core.event import Event
from hale.errors import PreparationError
from hale.local import story
from hale.ports import Instance


def started(**fields: object) -> str:
    instance = Instance("r1", 1, 0.0, **fields)  # type: ignore[arg-type]
    return story.detailed(Event(0.0, "replica.started", "started", "d1"), instance).message


@pytest.mark.parametrize("ports", [{}, {8000: 8000}, {8000: 8000, 9000: 9000}])
def test_one_with_an_address_of_its_own_is_started_there(ports: Mapping[int, int]) -> None:
    assert started(address="10.89.0.5", ports=ports) == "started, at 10.89.0.5"


def test_one_whose_ports_are_published_is_started_with_these() -> None:
    assert started(ports={8000: 40000, 9000: 40001}) == "started, port 8000 is 40000, 9000 is 40001"


@pytest.mark.parametrize(
    ("ports", "words"), [({}, ""), ({80: 40000}, ", port 80 is 40000"), ({8000: 8000}, ", port 8000 is 8000")]
)
def test_a_process_is_started_with_its_pid_and_ports(ports: Mapping[int, int], words: str) -> None:
    assert started(pid=7, ports=ports) == f"started, pid 7{words}"


def failure(kind: str) -> PreparationError:
    return PreparationError("cannot do it: the whole reason", event=kind, fatal=True, hint="try it")


def test_what_was_told_in_full_is_a_few_words_then() -> None:
    assert story.brief(failure("image.tag_not_found")) == "no such tag"
    assert story.brief(failure("volume.another")) == "cannot do it: the whole reason"


def test_a_warning_about_an_old_image_has_no_hint() -> None:
    told = story.stale("web:2", failure("image.unreachable"))
    assert told.message == "cannot do it: the whole reason; using the web:2 that is here"
