"""Ports for replicas: free ones, none twice, and none that the kernel may give to a connection."""

import random
import socket
from pathlib import Path

import pytest

from hale.errors import EngineError
from hale.local.engines import free_ports as module
from hale.local.engines.free_ports import free_ports


def _all_free(first: int) -> bool:
    return all(module._free(port) for port in range(first, first + 8))


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> range:
    """Ports that nobody else looks at, four of them outside of what the kernel gives to connections."""
    first = next(first for first in iter(lambda: random.randrange(10_000, 14_900), 0) if _all_free(first))
    kernel = tmp_path / "ip_local_port_range"
    kernel.write_text(f"{first + 4}\t{first + 7}\n")
    monkeypatch.setattr(module, "_RANGE", kernel)
    monkeypatch.setattr(module, "_FIRST", first)
    monkeypatch.setattr(module, "_LAST", first + 7)
    return range(first, first + 8)


def test_ports_are_outside_of_what_the_kernel_gives_to_connections() -> None:
    first, last = (int(word) for word in module._RANGE.read_text().split())
    found = free_ports(50, ())
    assert len(set(found)) == 50
    assert not [port for port in found if first <= port <= last]


def test_every_port_is_tried_once_wherever_the_search_begins(narrow: range) -> None:
    for _ in range(50):
        assert sorted(module._candidates()) == list(narrow)


def test_taken_ports_are_passed_over_and_the_kernels_are_used_when_no_others_are_left(narrow: range) -> None:
    taken = set(narrow[:3])
    found = free_ports(2, taken)
    assert found[0] == narrow[3]
    assert found[1] in narrow[4:]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_passed_over(narrow: range, host: str) -> None:
    with socket.create_server((host, narrow[0])):
        assert narrow[0] not in free_ports(4, ())


def test_without_a_free_port_the_error_says_so(narrow: range) -> None:
    with pytest.raises(EngineError, match="cannot find a free port"):
        free_ports(1, set(narrow))
