"""What Docker does otherwise than Podman, by a server that speaks as it does."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hale.core.image import Credentials, Progress
from hale.errors import EngineUnavailableError, HaleError, PreparationError
from hale.local.engines.container_api import Api
from hale.local.engines.images import Images

pytestmark = pytest.mark.real_time

DIGEST = f"sha256:{'0a' * 32}"
LAYERS = [
    {"status": "Pulling from team/web", "id": "1"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "a"},
    {"status": "Downloading", "progressDetail": {"current": 5, "total": 10}, "id": "a"},
    {"status": "Download complete", "progressDetail": {}, "id": "a"},
    {"status": "Pull complete", "progressDetail": {}, "id": "a"},
]
END = [{"status": f"Digest: {DIGEST}"}, {"status": "Status: Downloaded newer image for reg.io/team/web:1"}]
KEYS = Credentials("reg.io", "robot", "hidden")


@dataclass
class Docker:
    """`answers` by path; what it was asked is in `asked`, and what it was told in `told`."""

    records: list[dict[str, Any]] = field(default_factory=lambda: [*LAYERS, *END])
    status: int = 200
    failure: str = ""
    breaks: bool = False
    hangs: bool = False
    auth: tuple[int, dict[str, str]] = (200, {"Status": "Login Succeeded"})
    image: dict[str, Any] | None = field(default_factory=lambda: {"Id": DIGEST, "Architecture": "amd64"})
    asked: list[str] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.partition("/v1.41")[2] or request.path
        self.asked.append(f"{path}?{request.query_string}".rstrip("?"))
        if path == "/images/create":
            return await self._create(request)
        if path == "/auth":
            self.told.append(await request.json())
            return web.json_response(self.auth[1], status=self.auth[0])
        if path.startswith("/images/"):
            missing = {"message": "No such image"}
            return web.json_response(self.image or missing, status=200 if self.image else 404)
        return web.json_response({"ApiVersion": "1.41", "Arch": "amd64", "NCPU": 1})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        if auth := request.headers.get("X-Registry-Auth"):
            self.told.append(json.loads(base64.urlsafe_b64decode(auth)))
        if self.failure:
            return web.Response(status=self.status, text=self.failure)
        answer = web.StreamResponse()
        await answer.prepare(request)
        for record in self.records:
            await answer.write(json.dumps(record).encode() + b"\r\n")
        if self.hangs:
            await asyncio.sleep(60)
        if self.breaks and request.transport is not None:
            request.transport.abort()
        return answer


@pytest.fixture
def docker() -> Docker:
    return Docker()


@pytest.fixture
async def here(docker: Docker, tmp_path: Path) -> AsyncIterator[Images]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", docker.handle)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "docker.sock")).start()
    api = Api([tmp_path / "docker.sock"])
    await api.connect()
    yield Images(api)
    await api.close()
    await runner.cleanup()


async def failure(here: Images, image: str = "reg.io/team/web:1") -> HaleError:
    with pytest.raises(HaleError) as caught:
        await here.pull(image, KEYS, lambda _: None)
    return caught.value


async def test_a_pull_returns_the_digest_that_docker_tells(here: Images, docker: Docker) -> None:
    heard: list[Progress] = []
    assert await here.pull("reg.io/team/web:1", KEYS, heard.append) == f"reg.io/team/web@{DIGEST}"
    assert "/images/create?fromImage=reg.io/team/web&tag=1" in docker.asked
    assert docker.told == [{"username": "robot", "password": "hidden", "serveraddress": "reg.io"}]
    assert (heard[2], heard[-1]) == (Progress(0, 1, 0, 0), Progress(1, 1, 10, 10))


async def test_a_name_without_a_host_is_of_docker_hub_and_is_told_no_other_credentials(
    here: Images, docker: Docker
) -> None:
    assert await here.pull("web", KEYS, lambda _: None) == f"docker.io/library/web@{DIGEST}"
    assert "/images/create?fromImage=docker.io/library/web&tag=latest" in docker.asked
    assert docker.told == []


async def test_an_error_may_be_a_whole_answer(here: Images, docker: Docker) -> None:
    docker.status, docker.failure = 404, '{"message": "manifest for x not found: manifest unknown"}'
    error = await failure(here)
    assert isinstance(error, PreparationError)
    assert error.event == "image.tag_not_found"


async def test_an_error_may_be_no_json_at_all(here: Images, docker: Docker) -> None:
    docker.status, docker.failure = 500, "panic"
    error = await failure(here)
    assert error.message == "cannot pull reg.io/team/web:1: panic"


async def test_an_error_may_come_after_the_layers(here: Images, docker: Docker) -> None:
    said = "failed to register layer: write /x: no space left on device"
    docker.records = [*LAYERS, {"errorDetail": {"message": said}, "error": said}]
    error = await failure(here)
    assert isinstance(error, PreparationError)
    assert (error.event, "docker image prune" in error.hint) == ("image.disk_full", True)


async def test_a_stream_that_breaks_is_no_pull(here: Images, docker: Docker) -> None:
    docker.records, docker.breaks = LAYERS, True
    assert isinstance(await failure(here), EngineUnavailableError)


async def test_a_pull_that_nothing_is_heard_of_is_given_up(here: Images, docker: Docker) -> None:
    docker.hangs = True
    error = await failure(Images(here._api, silence=0.2))
    assert isinstance(error, PreparationError)
    assert (error.event, error.fatal) == ("image.unreachable", False)


async def test_an_image_for_another_architecture_is_refused(here: Images, docker: Docker) -> None:
    docker.image = {"Id": DIGEST, "Architecture": "s390x"}
    assert (await failure(here)).message == (
        "cannot run reg.io/team/web:1: it is for s390x, and this machine is amd64"
    )


@pytest.mark.parametrize(
    ("digests", "reference"),
    [
        pytest.param([f"reg.io/team/web@{DIGEST}"], f"reg.io/team/web@{DIGEST}", id="pulled from there"),
        pytest.param([f"other.io/web@{DIGEST}"], DIGEST, id="pulled from elsewhere"),
        pytest.param([], DIGEST, id="built here"),
    ],
)
async def test_what_is_here_is_named_by_its_digest_if_it_came_from_there(
    here: Images, docker: Docker, digests: list[str], reference: str
) -> None:
    docker.image = {"Id": DIGEST, "RepoDigests": digests}
    assert await here.find_image("reg.io/team/web:1") == reference


async def test_what_is_not_here_is_not_found(here: Images, docker: Docker) -> None:
    docker.image = None
    assert await here.find_image("reg.io/team/web:1") is None


@pytest.mark.parametrize(
    ("server", "address"),
    [("reg.io", "reg.io"), ("docker.io", "https://index.docker.io/v1/")],
)
async def test_docker_is_told_where_to_log_in(
    here: Images, docker: Docker, server: str, address: str
) -> None:
    await here.log_in(Credentials(server, "robot", "hidden"))
    assert docker.told == [{"username": "robot", "password": "hidden", "serveraddress": address}]


async def test_a_refused_log_in_is_not_tried_again(here: Images, docker: Docker) -> None:
    docker.auth = (401, {"message": 'Get "https://reg.io/v2/": unauthorized: incorrect username or password'})
    with pytest.raises(PreparationError, match="wrong username or password"):
        await here.log_in(KEYS)
    assert not any("/images/" in each for each in docker.asked)


async def test_nobody_logs_in_without_a_host(here: Images, docker: Docker) -> None:
    with pytest.raises(PreparationError, match="the registry has no host"):
        await here.log_in(Credentials("", "robot", "hidden"))
    assert docker.told == []
