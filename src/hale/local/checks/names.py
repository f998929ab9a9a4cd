"""Where to dial: numbers at once, names looked up beside the loop."""

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One address that can be dialled."""

    family: int
    address: tuple[object, ...]


Places = tuple[Place, ...]
Found = Callable[[Places, str], None]
LookUp = Callable[[str, int], Places]


def look_up(host: str, port: int, flags: int = 0) -> Places:
    """Every place that the host has, in the order to try them; it may take long."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return tuple(Place(int(family), address) for family, _, _, _, address in found)


def numeric(host: str, port: int) -> Places:
    """The place that a numeric address means; none if the host is a name."""
    try:
        return look_up(host, port, socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return ()


class Names:
    """Looks names up, one thread for each name that is being looked up; keeps nothing of what it found.

    A name whose servers do not answer thus holds up nobody but those who want that name.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, look_up: LookUp = look_up) -> None:
        self._loop = loop
        self._look_up = look_up
        self._waiting: dict[tuple[str, int], list[Found]] = {}

    def find(self, host: str, port: int, found: Found) -> None:
        """Call `found` on the loop with the places, or with none and the reason."""
        waiting = self._waiting.setdefault((host, port), [])
        waiting.append(found)
        if len(waiting) == 1:
            try:
                threading.Thread(target=self._work, args=(host, port), daemon=True, name="hale-names").start()
            except RuntimeError as error:
                self._loop.call_soon(self._tell, host, port, (), str(error))

    def _work(self, host: str, port: int) -> None:
        places: Places = ()
        problem = ""
        try:
            places = self._look_up(host, port)
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
        except ValueError:
            problem = "that is not a host name"
        try:
            self._loop.call_soon_threadsafe(self._tell, host, port, places, problem)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return

    def _tell(self, host: str, port: int, places: Places, problem: str) -> None:
        for found in self._waiting.pop((host, port), ()):
            self._loop.call_soon(found, places, problem)
