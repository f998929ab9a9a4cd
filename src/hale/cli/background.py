"""A daemon of our own: started, found to answer, and seen to end."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from hale.cli.client import Client, Place, UnreachableError, find, find_in
from hale.cli.follow import Wakes
from hale.cli.now import elapsed
from hale.cli.remote import Remote
from hale.cli.serve import ServeOptions
from hale.errors import HaleError

PROGRAM = (sys.executable, "-P", "-m", "hale.cli.main")
"""How this very hale is run; -P: nothing is imported from the folder that it happens to run in."""

_LOG_SIZE = 10 * 1024 * 1024

START_PATIENCE = 60.0
"""Seconds that a daemon may take until it answers."""


def running(data: Path) -> Remote | None:
    """The daemon on this data folder, if one answers."""
    try:
        client = Client(find(data))
        client.get("/health")
    except UnreachableError:
        return None
    return Remote(client)


def start(
    data: Path,
    options: ServeOptions,
    wakes: Wakes,
    hurried: Callable[[], bool],
    program: Sequence[str] = PROGRAM,
) -> "Daemon":
    """Start a daemon in a session of its own and return once it answers.

    It is not broken off before that, unless `hurried`: it may have begun to start replicas.
    """
    log = data / "serve.log"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        full = log.exists() and log.stat().st_size > _LOG_SIZE
        kept = os.O_TRUNC if full else os.O_APPEND
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | kept, 0o600), "ab") as written:  # noqa: PTH123
            seen = written.tell()
            process = subprocess.Popen(  # noqa: S603 # our own interpreter and program
                [*program, "serve", "--data", str(data), *options.given()],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                cwd=data,
                start_new_session=True,
            )
    except OSError as error:
        raise HaleError(f"cannot start a daemon on {data}: {error.strerror}") from error
    daemon = Daemon(process, log, seen)
    deadline = elapsed() + START_PATIENCE
    while not daemon.answers(data):
        if process.poll() is not None:
            raise daemon.failure()
        if hurried() or elapsed() > deadline:
            process.terminate()
            process.wait()
            if hurried():
                raise KeyboardInterrupt
            raise HaleError(
                f"cannot start a daemon: no answer within {START_PATIENCE:.0f} s", hint=f"see {log}"
            )
        wakes.wait(0.05)
    return daemon


class Daemon:
    """A daemon that is our child."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, seen: int) -> None:
        self.process = process
        self._log = log
        self._seen = seen
        self._place: Place | None = None

    def answers(self, data: Path) -> bool:
        """Whether it does; an address that an earlier daemon left behind may be anyone's by now."""
        with suppress(HaleError), closing(Client(find_in(data))) as client:
            if Remote(client).server().get("pid") == self.process.pid:
                self._place = client.place
                return True
        return False

    def remote(self) -> Remote:
        if self._place is None:
            raise HaleError("cannot reach the daemon: it has not answered yet")
        return Remote(Client(self._place))

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def ends_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.ended

    def failure(self) -> HaleError:
        """Why it ended, in its own words."""
        with self._log.open("rb") as written:
            written.seek(self._seen)
            said = written.read(64_000).decode("utf-8", "replace").splitlines()
        errors = [each.removeprefix("error: ") for each in said if each.startswith("error: ")]
        hints = [each.removeprefix("hint: ") for each in said if each.startswith("hint: ")]
        if errors:
            return HaleError(errors[-1], hint=hints[-1] if hints else "")
        code = self.process.returncode
        if code < 0:
            # Its last words are not about a signal that nobody can hear coming.
            why = f"it was ended by {_signal_name(-code)}"
        else:
            last = next((each for each in reversed(said) if each.strip()), "it said nothing")
            why = f"it ended with code {code}: {last}"
        return HaleError(
            f"cannot keep the daemon running: {why}",
            hint=f"{self._log} has more; `hale serve` takes over what still runs",
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ended(pid: int) -> Callable[[float], bool]:
    """A wait of so many seconds for the end of a process, ours or not: whether it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return lambda _seconds: True
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return lambda seconds: bool(poll.poll(seconds * 1000))
