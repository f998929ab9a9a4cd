"""Where an engine is looked for, what is said when none answers, and what is known of one that does."""

import asyncio
from pathlib import Path

import aiodocker
import aiohttp
import pytest

from hale.errors import EngineError, EngineUnavailableError
from hale.local.engines.container_api import Api, Host, engine_errors, sockets, start_again


@pytest.mark.parametrize(
    ("environ", "places"),
    [
        ({"DOCKER_HOST": "unix:///tmp/own.sock"}, ["/tmp/own.sock"]),
        (
            {"XDG_RUNTIME_DIR": "/run/user/7"},
            ["/run/podman/podman.sock", "/run/user/7/podman/podman.sock", "/var/run/docker.sock"],
        ),
        (
            {},
            ["/run/podman/podman.sock", "/run/user/1000/podman/podman.sock", "/var/run/docker.sock"],
        ),
    ],
)
def test_where_an_engine_is_looked_for(environ: dict[str, str], places: list[str]) -> None:
    assert [str(place) for place in sockets(environ, 1000)] == places


@pytest.mark.parametrize("elsewhere", ["tcp://10.0.0.1:2375", "ssh://me@there", "/run/docker.sock"])
def test_an_engine_that_is_not_at_a_unix_socket_is_refused(elsewhere: str) -> None:
    with pytest.raises(
        EngineUnavailableError, match=f"DOCKER_HOST is {elsewhere}, not a Unix socket"
    ) as said:
        sockets({"DOCKER_HOST": elsewhere}, 0)
    assert elsewhere in said.value.message
    assert "unix:///" in said.value.hint


@pytest.mark.real_time
async def test_when_none_answers_each_place_is_named_with_what_it_said(tmp_path: Path) -> None:
    nobody, mute = tmp_path / "nobody.sock", tmp_path / "mute.sock"

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(hang_up, mute):
        api = Api([nobody, mute])
        with pytest.raises(EngineUnavailableError) as said:
            await api.connect()
    assert f"no answer from {nobody} (no such file or directory), {mute} (" in said.value.message
    assert "sudo systemctl enable --now podman.socket" in said.value.hint
    assert "systemctl --user enable --now podman.socket" in said.value.hint
    with pytest.raises(EngineUnavailableError, match="no answer from"):
        api.docker  # noqa: B018


@pytest.mark.parametrize(
    ("raised", "translated", "words"),
    [
        (aiodocker.DockerError(500, " no space left "), EngineError, "cannot do it: no space left"),
        (aiodocker.DockerError(900, "x"), EngineUnavailableError, "does not answer"),
        (TimeoutError(), EngineUnavailableError, "does not answer"),
        (aiohttp.ServerDisconnectedError(), EngineUnavailableError, "went away"),
        (
            aiohttp.ClientPayloadError("Response payload is not completed: <TransferEncodingError: 400>"),
            EngineUnavailableError,
            "^cannot do it: the container engine went away: it broke off what it was saying$",
        ),
        (ConnectionResetError("reset"), EngineUnavailableError, "went away: reset"),
    ],
)
def test_errors_are_told_in_hales_words(raised: Exception, translated: type[Exception], words: str) -> None:
    with pytest.raises(EngineError, match=words) as said, engine_errors("do it"):
        raise raised
    assert type(said.value) is translated


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/run/podman/podman.sock", "start it again: `sudo systemctl start podman.socket`"),
        ("/run/user/7/podman/podman.sock", "start it again: `systemctl --user start podman.socket`"),
        ("/var/run/docker.sock", "start it again: `sudo systemctl start docker`"),
        ("/tmp/podman.sock", "start the engine again that listens on /tmp/podman.sock"),
    ],
)
def test_an_engine_that_was_there_is_to_be_started_not_installed(place: str, words: str) -> None:
    assert start_again(Path(place)) == words


PODMAN = {"BuildahVersion": "1.28", "ServerVersion": "4.3.1", "NCPU": 2, "MemTotal": 10, "Rootless": False}
DOCKER = {"ServerVersion": "28.2", "NCPU": 8, "MemTotal": 20, "SecurityOptions": ["name=seccomp"]}
LIMITS = {"CpuCfsQuota": True, "MemoryLimit": True, "SwapLimit": True}


def test_podman_and_docker_are_told_apart() -> None:
    podman = Host.read({**PODMAN, **LIMITS}, devices=False)
    docker = Host.read({**DOCKER, **LIMITS, "InitBinary": "docker-init"}, devices=False)
    assert (podman.podman, podman.rootless, podman.cpus, podman.memory) == (True, False, 2, 10)
    assert (docker.podman, docker.rootless, docker.init) == (False, False, True)


@pytest.mark.parametrize(
    "info", [{**PODMAN, "Rootless": True}, {**DOCKER, "SecurityOptions": ["name=rootless"]}]
)
def test_one_without_root_is_known(info: dict[str, object]) -> None:
    host = Host.read(info, devices=False)
    assert host.rootless
    assert (host.cpu_limit, host.memory_limit, host.swap_limit) == (False, False, False)


@pytest.mark.parametrize(
    ("info", "devices", "gpus"),
    [
        (PODMAN, True, False),
        ({**PODMAN, "ServerVersion": "5.4.2"}, True, True),
        ({**PODMAN, "ServerVersion": "5.4.2"}, False, False),
        (DOCKER, True, False),
        ({**DOCKER, "Runtimes": {"nvidia": {}}}, False, True),
    ],
)
def test_gpus_are_there_if_the_engine_can_give_them(
    info: dict[str, object], devices: bool, gpus: bool
) -> None:
    assert Host.read(info, devices=devices).gpus is gpus
