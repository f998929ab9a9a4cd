"""Images of the container engine: pulled, found, and registries that are logged in to."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiodocker
import aiohttp
from yarl import URL

from hale.core.image import DOCKER_HUB, Credentials, ImageName, Progress, is_id, is_local, parse_name
from hale.errors import HaleError, PreparationError
from hale.local.engines import pull_errors
from hale.local.engines.architecture import normal, runs
from hale.local.engines.container_api import Api, engine_errors
from hale.local.engines.pull_stream import PullStream

Tell = Callable[[Progress], None]

_LIBPOD = "v4.0.0/libpod"
_SILENCE = 300.0
"""Seconds without a word of a pull, after which it is given up: unpacking a layer may take minutes."""
_HUB_FOR_DOCKER = "https://index.docker.io/v1/"
_PROBE = "hale/log-in:probe"
"""An image that no registry has."""
_NO_SUCH = 404
_NO_CONNECTION = 900


@dataclass(slots=True)
class _Flight:
    """A pull under way. `outcome`: the reference, an error, or None if whoever pulled gave up."""

    outcome: asyncio.Future[str | HaleError | None]
    listeners: list[Tell] = field(default_factory=list)
    last: Progress = field(default_factory=Progress)

    def tell(self, progress: Progress) -> None:
        self.last = progress
        for listener in self.listeners:
            listener(progress)


class Images:
    """One pull of an image at a time: who asks meanwhile hears of the same one, and gets what it gets."""

    def __init__(self, api: Api, *, silence: float = _SILENCE) -> None:
        self._api = api
        self._silence = silence
        self._flights: dict[tuple[str, Credentials | None], _Flight] = {}

    async def pull(self, image: str, credentials: Credentials | None, tell: Tell) -> str:
        """As Engine.pull."""
        key = (image, credentials)
        while True:
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, tell)
            outcome = await _join(flight, tell)
            if isinstance(outcome, HaleError):
                raise outcome
            if outcome is not None:
                return outcome

    async def _lead(self, key: tuple[str, Credentials | None], tell: Tell) -> str:
        flight = self._flights[key] = _Flight(asyncio.get_running_loop().create_future(), [tell])
        outcome: str | HaleError | None = None
        try:
            outcome = await self._pull(*key, flight.tell)
        except HaleError as error:
            outcome = error
            raise
        finally:
            del self._flights[key]
            flight.outcome.set_result(outcome)
        return outcome

    async def find_image(self, image: str) -> str | None:
        """As Engine.find_image."""
        with engine_errors(f"look for the image {image}"):
            found = await self._inspect(image)
            if found is None:
                return None
            if is_id(image) or "@" in image:
                return image
            return await self._reference_here(found, parse_name(image))

    async def log_in(self, credentials: Credentials) -> None:
        """As Engine.log_in: the engine itself tries, with what it is told of the registry's TLS."""
        if not credentials.server:
            # The engine would take none for Docker Hub, and tell that.
            raise PreparationError(
                "cannot log in: the registry has no host",
                event=pull_errors.DENIED,
                fatal=True,
                hint="give the connection the registry's url",
            )
        said = await self._refusal(credentials)
        if said is not None and self._api.host.podman and pull_errors.said_plain_or_untrusted(said):
            # Podman's log-in knows nothing of registries that it is told to trust; its pull does.
            said = await self._refused_probe(credentials)
        if said is not None:
            raise pull_errors.log_in_error(credentials.server, said, engine=self._engine)

    @property
    def _engine(self) -> str:
        return "podman" if self._api.host.podman else "docker"

    # --- pulling ----------------------------------------------------------------------------

    async def _pull(self, image: str, credentials: Credentials | None, tell: Tell) -> str:
        name = parse_name(image)
        if is_id(image):
            return await self._by_id(image)
        tell(Progress())
        stream = PullStream(podman=self._api.host.podman)
        async with (
            self._failures(image, name, credentials),
            aclosing(self._records(name, credentials)) as records,
        ):
            async for record in records:
                stream.take(record)
                tell(stream.progress)
        with engine_errors(f"look at the image {image}"):
            found = await self._inspect(str(name))
            await self._check_architecture(image, found or {})
            if name.digest:
                return image
            if stream.digest:
                return f"{name.place}@{stream.digest}"
            return await self._reference_there(found or {}, name, credentials)

    async def _records(
        self, name: ImageName, credentials: Credentials | None
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """What the engine tells of the pull. The library takes a broken stream for a finished one."""
        place = f"{name.place}@{name.digest}" if name.digest else name.place
        query = {"fromImage": place} | ({} if name.digest else {"tag": name.tag})
        told = _told(credentials, name.host)
        headers = {"X-Registry-Auth": _encoded(told)} if told else {}
        url = self._api.url("images/create", **query)
        within = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self._silence)
        async with self._api.docker.session.post(url, headers=headers, timeout=within) as answer:
            if not answer.ok:
                raise aiodocker.DockerError(answer.status, _said(await answer.text()))
            async for line in answer.content:
                record = json.loads(line)
                if "error" in record:
                    raise aiodocker.DockerError(answer.status, _said(line))
                yield record

    @asynccontextmanager
    async def _failures(
        self, image: str, name: ImageName, credentials: Credentials | None
    ) -> AsyncIterator[None]:
        with engine_errors(f"pull {image}"):
            try:
                yield
            except aiohttp.SocketTimeoutError as error:
                raise pull_errors.silent(image, name, self._silence) from error
            except aiodocker.DockerError as error:
                if error.status == _NO_CONNECTION:
                    raise
                raise await self._failure(image, name, credentials, error.message) from error

    async def _failure(
        self, image: str, name: ImageName, credentials: Credentials | None, said: str
    ) -> PreparationError:
        failure = pull_errors.pull_error(image, name, said, engine=self._engine)
        # Registries answer alike whether they lack the tag or the whole image.
        if failure.event == pull_errors.TAG_NOT_FOUND and await self._is_unknown(name, credentials):
            return pull_errors.not_found(image, name)
        return failure

    async def _is_unknown(self, name: ImageName, credentials: Credentials | None) -> bool:
        """Whether the registry knows no such image at all; Docker has no way to ask."""
        if not self._api.host.podman:
            return False
        headers = {}
        if credentials is not None and credentials.server == name.host:
            told = {name.host: {"username": credentials.username, "password": credentials.password}}
            headers["X-Registry-Config"] = _encoded(told)
        url = self._libpod("images/search").with_query(term=name.place, listTags="true", limit="1")
        async with self._api.docker.session.get(url, headers=headers) as answer:
            return answer.status != 200 and "404" in await answer.text()

    async def _by_id(self, image: str) -> str:
        with engine_errors(f"look for the image {image}"):
            if await self._inspect(image) is not None:
                return image
        raise PreparationError(
            f"cannot pull {image}: it was made on this machine, no registry has it, and it is gone",
            event=pull_errors.NOT_FOUND,
            fatal=True,
            hint="build or load it again, and apply the deployment",
        )

    async def _reference_there(
        self, found: Mapping[str, Any], name: ImageName, credentials: Credentials | None
    ) -> str:
        """By a digest that the registry knows; an image that was built here has one that it does not."""
        newest = f"{name.place}@{await self._digest(name)}"
        others = [each for each in _digests(found, name) if each != newest]
        for reference in (newest, *others) if others else ():
            if await self._is_known(reference, credentials):
                return reference
        return newest

    async def _is_known(self, reference: str, credentials: Credentials | None) -> bool:
        """Whether it can be pulled, which costs little for an image that is here."""
        name = parse_name(reference)
        try:
            async with (
                self._failures(reference, name, credentials),
                aclosing(self._records(name, credentials)) as records,
            ):
                async for _ in records:
                    continue
        except PreparationError as error:
            if error.event in (pull_errors.NOT_FOUND, pull_errors.TAG_NOT_FOUND):
                return False
            raise
        return True

    # --- what is here -----------------------------------------------------------------------

    async def _inspect(self, image: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = await self._api.docker.images.inspect(image)
        except aiodocker.DockerError as error:
            if error.status == _NO_SUCH:
                return None
            raise
        return found

    async def _check_architecture(self, image: str, found: Mapping[str, Any]) -> None:
        version = await self._api.docker.version()
        of_image, of_machine = str(found.get("Architecture") or ""), str(version.get("Arch") or "")
        if not runs(of_image, of_machine):
            raise pull_errors.wrong_architecture(image, normal(of_image), normal(of_machine))

    async def _digest(self, name: ImageName) -> str:
        """Podman lists every digest under every name of an image; this is the one that came with the pull."""
        url = self._libpod(f"images/{quote(str(name), safe='')}/json")
        async with self._api.docker.session.get(url) as answer:
            answer.raise_for_status()
            return str((await answer.json())["Digest"])

    async def _reference_here(self, found: Mapping[str, Any], name: ImageName) -> str:
        """By digest, if it came from that place; else by its id."""
        fitting = _digests(found, name)
        if not fitting or is_local(name.place):
            return str(found["Id"])
        newest = f"{name.place}@{await self._digest(name)}" if self._api.host.podman else fitting[0]
        return newest if newest in fitting else fitting[0]

    def _libpod(self, path: str) -> URL:
        return URL(f"{self._api.docker.docker_host}/{_LIBPOD}/{path}", encoded=True)

    # --- logging in -------------------------------------------------------------------------

    async def _refusal(self, credentials: Credentials) -> str | None:
        told = _told(credentials, credentials.server) or {}
        if credentials.server == DOCKER_HUB and not self._api.host.podman:
            told["serveraddress"] = _HUB_FOR_DOCKER
        try:
            with engine_errors(f"log in to {credentials.server}"):
                try:
                    await self._api.docker.auth(**told)
                except aiodocker.DockerError as error:
                    if error.status == _NO_CONNECTION:
                        raise
                    return error.message
        except TimeoutError:
            return "i/o timeout"
        return None

    async def _refused_probe(self, credentials: Credentials) -> str | None:
        """What a pull of what is not there says, if it says something else than just that."""
        name = parse_name(f"{credentials.server}/{_PROBE}")
        with engine_errors(f"log in to {credentials.server}"):
            try:
                async with aclosing(self._records(name, credentials)) as records:
                    async for _ in records:
                        continue
            except aiodocker.DockerError as error:
                if error.status == _NO_CONNECTION:
                    raise
                failure = pull_errors.pull_error(str(name), name, error.message, engine=self._engine)
                known = failure.event in (pull_errors.NOT_FOUND, pull_errors.TAG_NOT_FOUND)
                refused = failure.event == pull_errors.DENIED and not pull_errors.said_denied(error.message)
                return None if known or refused else error.message
        return None


async def _join(flight: _Flight, tell: Tell) -> str | HaleError | None:
    flight.listeners.append(tell)
    tell(flight.last)
    try:
        return await asyncio.shield(flight.outcome)
    finally:
        flight.listeners.remove(tell)


def _told(credentials: Credentials | None, host: str) -> dict[str, Any] | None:
    """What the engine is to tell that host: nothing, if the credentials are for another."""
    if credentials is None or credentials.server != host:
        return None
    return {"username": credentials.username, "password": credentials.password, "serveraddress": host}


def _digests(found: Mapping[str, Any], name: ImageName) -> list[str]:
    """References of the image by digest, of that place."""
    digests = [str(each) for each in found.get("RepoDigests") or ()]
    return [each for each in digests if parse_name(each).place == name.place]


def _encoded(told: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _said(answer: str | bytes) -> str:
    """The words of an error, whether it is a whole answer or one record among others."""
    try:
        record = json.loads(answer)
        detail = record.get("errorDetail") or {}
        return str(detail.get("message") or record.get("error") or record.get("message") or "")
    except (ValueError, AttributeError):
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer
