"""The container engine's API: finding its socket, connecting, and its errors in hale's words.

Podman and Docker speak the same one; `Host` knows which of them answered and what it can do.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from yarl import URL

from hale.errors import EngineError, EngineUnavailableError

HINT = (
    "start one: `sudo apt install podman && sudo systemctl enable --now podman.socket`,"
    " or without root: `systemctl --user enable --now podman.socket`"
)

_STARTS = {
    "/run/podman/podman.sock": "sudo systemctl start podman.socket",
    "/run/user/*/podman/podman.sock": "systemctl --user start podman.socket",
    "/var/run/docker.sock": "sudo systemctl start docker",
}
_UNIX = "unix://"
_NO_CONNECTION = 900
"""What aiodocker calls the status of an engine that can't be reached."""
_ANSWERS_WITHIN = aiohttp.ClientTimeout(total=120, sock_connect=5)
_LOOKED_AT_FOR = 10.0
_WITH_GPUS = 5
"""The first Podman that takes requests for GPUs over this API."""
_GPU_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))


@dataclass(frozen=True, slots=True)
class Host:
    """What answered, and which limits it can set. `cpus` and `memory` (bytes) are all that there is.

    `init` says that it has, or may have, a program that is the first process in place of the command.
    """

    podman: bool
    rootless: bool = False
    cpus: int = 1
    memory: int = 0
    cpu_limit: bool = True
    memory_limit: bool = True
    swap_limit: bool = True
    gpus: bool = False
    init: bool = True

    @classmethod
    def read(cls, info: Mapping[str, Any], *, devices: bool) -> "Host":
        """`devices`: whether this machine describes GPUs to engines (CDI)."""
        podman = "BuildahVersion" in info
        security = info.get("SecurityOptions") or ()
        return cls(
            podman,
            bool(info.get("Rootless")) or any("name=rootless" in option for option in security),
            int(info.get("NCPU") or 1),
            int(info.get("MemTotal") or 0),
            bool(info.get("CpuCfsQuota")),
            bool(info.get("MemoryLimit")),
            bool(info.get("SwapLimit")),
            devices and _major(info) >= _WITH_GPUS if podman else "nvidia" in (info.get("Runtimes") or {}),
            podman or bool(info.get("InitBinary")),  # Podman does not say
        )


def _major(info: Mapping[str, Any]) -> int:
    major = str(info.get("ServerVersion")).partition(".")[0]
    return int(major) if major.isdigit() else 0


def sockets(environ: Mapping[str, str], uid: int) -> Sequence[Path]:
    """Where an engine may listen, in order; EngineUnavailableError if DOCKER_HOST is not a Unix socket."""
    given = environ.get("DOCKER_HOST", "")
    if given.startswith(_UNIX):
        return [Path(given.removeprefix(_UNIX))]
    if given:
        raise EngineUnavailableError(
            f"cannot reach a container engine: DOCKER_HOST is {given}, not a Unix socket",
            hint="set DOCKER_HOST to unix:///path/of/the.sock of an engine on this machine, or unset it",
        )
    own = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return [
        Path("/run/podman/podman.sock"),
        Path(own) / "podman/podman.sock",
        Path("/var/run/docker.sock"),
    ]


def start_again(place: Path) -> str:
    """What to do about an engine that was there."""
    for usual, command in _STARTS.items():
        if place.match(usual):
            return f"start it again: `{command}`"
    return f"start the engine again that listens on {place}"


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """The library's errors as EngineError("cannot <doing>: <why>"); the library stays behind this line."""
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == _NO_CONNECTION:
            raise EngineUnavailableError(f"cannot {doing}: the container engine does not answer") from error
        raise EngineError(f"cannot {doing}: {error.message.strip()}") from error
    except TimeoutError as error:
        raise EngineUnavailableError(f"cannot {doing}: the container engine does not answer") from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineUnavailableError(
            f"cannot {doing}: the container engine went away: {_left(error)}"
        ) from error


class Api:
    """One connection to the first engine that answers. `trouble` says why there is none ("": there is one).

    Once an engine has answered, no other place is looked at: what runs there is not known elsewhere.
    """

    def __init__(self, places: Sequence[Path] | None = None, *, hint: str = HINT) -> None:
        self._places = places
        self._hint = hint
        self._docker: aiodocker.Docker | None = None
        self._host: Host | None = None
        self.trouble: EngineUnavailableError | None = EngineUnavailableError(
            "cannot reach a container engine: not looked for yet", hint=hint
        )

    @property
    def docker(self) -> aiodocker.Docker:
        """EngineUnavailableError while no engine answers."""
        if self._docker is None or self.trouble is not None:
            raise self._unreached()
        return self._docker

    @property
    def host(self) -> Host:
        """The engine that answers, or did last; EngineUnavailableError if none ever did."""
        if self._host is None:
            raise self._unreached()
        return self._host

    @property
    def socket(self) -> Path | None:
        """Where the engine is that answers, or did last."""
        return self._places[0] if self._host is not None and self._places else None

    def url(self, path: str, /, **query: str) -> URL:
        """For what the library has no call for: `docker.session.get(api.url("events"))`."""
        docker = self.docker
        return URL(f"{docker.docker_host}/{docker.api_version}/{path}").with_query(query)

    async def connect(self) -> None:
        """Look for an engine; EngineUnavailableError names the places and what each said."""
        try:
            await self._connect()
        except EngineUnavailableError as error:
            self.trouble = error
            raise
        self.trouble = None

    async def _connect(self) -> None:
        places = self._places if self._places is not None else sockets(os.environ, os.getuid())
        said = []
        for place in places:
            docker = aiodocker.Docker(url=f"{_UNIX}{place}", timeout=_ANSWERS_WITHIN)
            try:
                info = await _asked(docker)
            except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                await docker.close()
                said.append(f"{place} ({_why(error)})")
                continue
            await self.close()
            self._docker, self._host, self._places = (
                docker,
                Host.read(info, devices=_describes_gpus()),
                [place],
            )
            return
        raise EngineUnavailableError(
            f"cannot reach a container engine: no answer from {', '.join(said)}", hint=self._what_to_do()
        )

    def lost(self, why: str) -> None:
        """The engine went away; until the next `connect` no call is tried."""
        self.trouble = EngineUnavailableError(
            f"cannot reach the container engine: {why}", hint=self._what_to_do()
        )

    def _what_to_do(self) -> str:
        return self._hint if self.socket is None else start_again(self.socket)

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    def _unreached(self) -> EngineUnavailableError:
        trouble = self.trouble
        assert trouble is not None  # noqa: S101  (set whenever there is no connection)
        return EngineUnavailableError(trouble.message, hint=trouble.hint)


async def _asked(docker: aiodocker.Docker) -> Mapping[str, Any]:
    async with asyncio.timeout(_LOOKED_AT_FOR):
        info: Mapping[str, Any] = await docker.system.info()
        return info


def _describes_gpus() -> bool:
    return any(True for folder in _GPU_FOLDERS for _ in folder.glob("*nvidia*"))


def _left(error: aiohttp.ClientError | OSError) -> str:
    """How it went away; the library's words for the middle of an answer are about encodings."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it broke off what it was saying"
    return str(error)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"silent for {_LOOKED_AT_FOR:.0f} s"
    # What the library says of a refused connection names everything but the reason.
    cause = error.__cause__ or error.__context__
    number = getattr(cause, "errno", None) or getattr(getattr(cause, "os_error", None), "errno", None)
    if number:
        why = os.strerror(number)
        return why[:1].lower() + why[1:]
    return str(error)
