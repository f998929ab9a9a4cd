"""FolderVolumes: each volume is a folder, filled beside its place and moved there when it is whole."""

import asyncio
import hashlib
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from hale.core.image import Progress
from hale.core.volume import Source
from hale.errors import HaleError, PreparationError
from hale.local.volumes import git_lfs, git_remote, s3, trees
from hale.local.volumes.threads import FILLING, REMOVING, in_thread
from hale.local.volumes.trouble import Event, of_system
from hale.spec.naming import slug

log = logging.getLogger(__name__)

Fill = Callable[[Source, Path, Path, Callable[[Progress], None]], Awaitable[None]]

_FILLS: Mapping[str, Fill] = {"s3": s3.fill, "git-lfs": git_lfs.fill}
_SHOWN: Mapping[str, Callable[[Source], str]] = {"s3": s3.shown, "git-lfs": git_remote.shown}

_FILLING, _REMOVING = ".filling-", ".removing-"
_DIGITS = 16


class FolderVolumes:
    """`<folder>/<deployment id>/<name>-<digest of the key>`, out of reach for other users of the machine.

    `async with` removes what an earlier process has left half filled or half removed. What is being filled
    stays for the next try if its source was lost on the way, and only then.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._token = secrets.token_hex(4)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._making = threading.Lock()
        self._tasks = asyncio.TaskGroup()
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            _make_private(self._folder)
        except OSError as error:
            raise HaleError(f"cannot keep volumes in {self._folder}: {of_system(error).why}") from error
        await self._tasks.__aenter__()
        self._sweeping = self._tasks.create_task(in_thread(REMOVING, self._sweep))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._tasks.__aexit__(None, None, None)  # an error of the block stays what it is

    def folder(self, deployment_id: str, source: Source) -> str:
        return str(self._folder / deployment_id / f"{slug(source.name, ())}-{_digest(source.key)}")

    # --- filling ----------------------------------------------------------------------------

    async def fill(self, deployment_id: str, source: Source, tell: Callable[[Progress], None]) -> None:
        place = self.folder(deployment_id, source)
        turn = self._turns.setdefault(place, asyncio.Lock())
        async with turn:
            try:
                if not await in_thread(FILLING, Path(place).is_dir):
                    await self._make(Path(place), source, tell)
            except OSError as error:
                shown = _SHOWN[source.type](source) if source.type in _SHOWN else ""
                raise of_system(error).error(source, shown) from error

    async def _make(self, place: Path, source: Source, tell: Callable[[Progress], None]) -> None:
        # Of this process alone: whoever may still write for an earlier one does not write here.
        beside = place.with_name(f"{_FILLING}{place.name}-{self._token}")
        volume, scratch = beside / "volume", beside / "scratch"
        going_on = False
        try:
            await in_thread(FILLING, self._prepare, place.parent, beside, scratch, volume)
            if source.type in _FILLS:
                tell(Progress())
                await _FILLS[source.type](source, volume, scratch, tell)
            await in_thread(FILLING, _settle, volume, writable=source.writable)
            volume.rename(place)
            await in_thread(FILLING, _flush, place.parent)
        except PreparationError as error:
            going_on = error.event == Event.UNREACHABLE
            raise
        finally:
            if not going_on:
                await in_thread(FILLING, _remove, beside)

    # --- removing ---------------------------------------------------------------------------

    async def keep(self, deployment_id: str, keys: Collection[str]) -> None:
        try:
            await in_thread(REMOVING, self._keep, self._folder / deployment_id, set(map(_digest, keys)))
        except OSError as error:
            raise HaleError(
                f"cannot remove volumes of deployment {deployment_id}: {of_system(error).why}"
            ) from error

    def _keep(self, folder: Path, digests: Collection[str]) -> None:
        for entry in _entries(folder):
            if self._belongs(entry.name, digests):
                continue
            if entry.name.startswith((_FILLING, _REMOVING)):
                _remove(entry)
                continue
            # What is half removed must not be taken for whole.
            away = entry.with_name(f"{_REMOVING}{entry.name}-{secrets.token_hex(4)}-{self._token}")
            entry.rename(away)
            _remove(away)
        if not digests:
            self._leave(folder)

    def _belongs(self, name: str, digests: Collection[str]) -> bool:
        if name.startswith(_FILLING):
            name, _, token = name.rpartition("-")
            if token != self._token:
                return False
        return not name.startswith(_REMOVING) and name.rpartition("-")[2] in digests

    def _sweep(self) -> None:
        for folder in _entries(self._folder):
            for entry in _entries(folder):
                ours = entry.name.endswith(f"-{self._token}")
                if entry.name.startswith((_FILLING, _REMOVING)) and not ours:
                    _remove(entry)
            self._leave(folder)

    def _prepare(self, *folders: Path) -> None:
        with self._making:
            _make_private(*folders)

    def _leave(self, folder: Path) -> None:
        """Nobody's folder goes, unless somebody has come meanwhile."""
        with self._making, suppress(OSError):
            folder.rmdir()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _make_private(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)


def _settle(volume: Path, *, writable: bool) -> None:
    """Give it the rights that it is to have, and see to it that it is on the disk.

    Whatever user a container runs as, it may write where it is meant to; nobody else gets as far as here.
    """
    if writable:
        volume.chmod(0o777)
    else:
        trees.make_read_only(volume)
    trees.flush(volume)


def _flush(folder: Path) -> None:
    trees.flush_names(folder)
    trees.flush_names(folder.parent)


def _remove(tree: Path) -> None:
    """What can't be removed is no reason to stop: it is tried again at the next start."""
    try:
        trees.remove(tree)
    except OSError as error:
        log.warning("cannot remove all of %s: %s; remove it by hand", tree, of_system(error).why)
