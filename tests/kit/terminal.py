"""A program in a terminal of its own: what it shows, keys pressed, the window closed."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

CTRL_C = "\x03"

# The program becomes the leader of a session whose terminal is its standard input, as in a real one.
_AS_IN_A_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """Runs the command; use as a context manager, which kills what is left of its session's leader."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], size: tuple[int, int] = (40, 120)
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self._shown = bytearray()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AS_IN_A_TERMINAL, *command],
            cwd=cwd,
            env={"TERM": "xterm-256color"} | dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._closing, self._close = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def text(self) -> str:
        """Everything written so far, control sequences included."""
        return self._shown.decode(errors="replace")

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def hang_up(self) -> None:
        """Close the window: the session gets SIGHUP, and writing to it fails from now on."""
        if self._close < 0:
            return
        os.close(self._close)
        self._close = -1
        # A read under way would keep the terminal open.
        self._reader.join()
        os.close(self._master)
        os.close(self._closing)

    def wait(self, within: float = 60.0) -> int:
        return self.process.wait(timeout=within)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()

    def _read(self) -> None:
        # The last close of the other side is an error here (EIO), not an end of file.
        with contextlib.suppress(OSError):
            while self._closing not in select.select([self._master, self._closing], [], [])[0]:
                self._shown += os.read(self._master, 65536)
