"""Volumes from git repositories, their large files by git-lfs: the files alone, without a history.

The repository is beside the volume, not in it; large files are moved from there into the volume.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hale.core.image import Progress
from hale.core.volume import Source
from hale.local.volumes import pointers, trees
from hale.local.volumes.child import run
from hale.local.volumes.git_remote import SCHEMES, Remote, shown
from hale.local.volumes.pointers import Pointer
from hale.local.volumes.programs import find, surroundings
from hale.local.volumes.threads import FILLING, in_thread
from hale.local.volumes.trouble import DISK_FULL, Event, Failure, told, trouble

_LOOK = 0.5
_LINES = 50
"""How many of the last ones that git has written are remembered."""

_RECEIVED = re.compile(r"Receiving objects: +\d+% \((\d+)/(\d+)\)(?:, ([\d.]+) (bytes|KiB|MiB|GiB))?")
_SAYING = re.compile(r"(fatal|error): (unable to access '[^']*': )?")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_NO_REF = Failure(
    Event.NOT_FOUND,
    "the repository has no such branch, tag or commit",
    "name one after # at the end of the integration's url",
    fatal=True,
)
_TROUBLES = (
    DISK_FULL,
    trouble(
        r"couldn't find remote ref|not our ref|unadvertised object",
        _NO_REF.event,
        _NO_REF.why,
        _NO_REF.hint,
    ),
    trouble(
        r"object does not exist|missing object|object not found|\[404\]",
        Event.NOT_FOUND,
        "an object of git-lfs is not on the server",
        "push it: git lfs push --all origin",
    ),
    trouble(
        r"host key verification failed",
        Event.DENIED,
        "ssh does not know the host's key",
        "log in once by hand, as the user that hale runs as",
    ),
    trouble(
        r"dubious ownership",
        Event.DENIED,
        "the repository belongs to another user",
        "give it to the user that hale runs as, or have it served by ssh or http",
    ),
    trouble(
        r"authentication failed|could not read (username|password)|authentication required"
        r"|authorization error|permission denied|returned error: 40[13]|access denied",
        Event.DENIED,
        "access denied, or there is no such repository",
        "put a user and a password (or token) into the integration's url: https://NAME:PASSWORD@host/…",
    ),
    trouble(
        r"does not appear to be a git repository|repository .*not found|returned error: 404",
        Event.NOT_FOUND,
        "there is no such repository",
        "correct the integration's url",
    ),
    trouble(
        r"certificate|x509|ssl",
        Event.FAILED,
        hint="name the certificate's issuer in SSL_CERT_FILE",
    ),
    trouble(
        r"could not resolve|failed to connect|couldn't connect|unable to connect|connection re(fused|set)"
        r"|timed? ?out|too slow|no route to host|unreachable|no such host|dial tcp|hung up|early eof"
        r"|unexpected (eof|disconnect)|rpc failed|empty reply|returned error: (5\d\d|429)|transfer closed",
        Event.UNREACHABLE,
        hint="is the integration's url right, and its server up?",
    ),
)


async def fill(source: Source, folder: Path, scratch: Path, tell: Callable[[Progress], None]) -> None:
    """Make the folder the files of the commit; objects that are here already are not fetched again."""
    git = _Git(source, _remote(source), folder, scratch, tell)
    await git.fetch()
    found = await in_thread(FILLING, pointers.find, folder)
    if found:
        await git.fetch_large(found)
        missing = await in_thread(FILLING, _replace, found, git.objects)
        if missing:
            name = missing[0].path.relative_to(folder)
            git.fail(Failure(Event.NOT_FOUND, f"the content of {name} is not on the server", fatal=True))
    files, size = await in_thread(FILLING, trees.contents, folder)
    tell(Progress(files, files, size, size))


def _remote(source: Source) -> Remote:
    """The repository, if it can be asked for at all."""
    unknown = Failure(
        Event.FAILED,
        "it is no url of a repository",
        f"one of {', '.join(SCHEMES)}; in a password / is %2F, ? is %3F, # is %23",
        fatal=True,
    )
    try:
        remote = Remote.of(source)
    except ValueError as error:
        raise unknown.error(source, shown(source)) from error
    if not remote.known:
        raise unknown.error(source, shown(source))
    if not remote.ref_possible:
        raise _NO_REF.error(source, shown(source))
    return remote


@dataclass(frozen=True, slots=True)
class _Git:
    """One repository, on its way into a folder."""

    source: Source
    remote: Remote
    folder: Path
    scratch: Path
    tell: Callable[[Progress], None]

    @property
    def objects(self) -> Path:
        return self.scratch / "git" / "lfs" / "objects"

    def fail(self, failure: Failure) -> NoReturn:
        raise failure.error(self.source, shown(self.source))

    async def fetch(self) -> None:
        """The newest commit, with pointers for its large files."""
        await self._run("init", "--quiet", "--template=")
        config = self.scratch / "git" / "config"
        config.write_text(self.remote.configuration())
        await self._run("fetch", "--progress", "--no-tags", "--depth=1", "origin", self.remote.ref)
        await self._run("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")

    async def fetch_large(self, found: Sequence[Pointer]) -> None:
        """The objects that the pointers stand for."""
        if find("git-lfs") is None:
            self.fail(Failure(Event.FAILED, "git-lfs is not here", "apt install git-lfs", fatal=True))
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look(found))
            try:
                code, lines = await self._try("lfs", "fetch", "--include=", "--exclude=", "origin")
            finally:
                looking.cancel()
        self._judge(code, lines)
        self.tell(await in_thread(FILLING, _progress, found, self.objects.parent))

    async def _look(self, found: Sequence[Pointer]) -> None:
        while True:
            self.tell(await in_thread(FILLING, _progress, found, self.objects.parent))
            await asyncio.sleep(_LOOK)

    async def _run(self, *arguments: str) -> None:
        self._judge(*await self._try(*arguments))

    async def _try(self, *arguments: str) -> tuple[int, Sequence[str]]:
        git = find("git")
        if git is None:
            self.fail(Failure(Event.FAILED, "git is not here", "apt install git git-lfs", fatal=True))
        lines: deque[str] = deque(maxlen=_LINES)

        def hear(line: str) -> None:
            if received := _RECEIVED.match(line):
                self.tell(_received(received))
            else:
                lines.append(line)

        code = await run([git, *arguments], self._environment(), self.scratch, hear)
        return code, lines

    def _judge(self, code: int, lines: Sequence[str]) -> None:
        if code:
            self.fail(why(self.source, lines))

    def _environment(self) -> dict[str, str]:
        places = {"GIT_DIR": str(self.scratch / "git"), "GIT_WORK_TREE": str(self.folder)}
        return surroundings(self.scratch) | places | dict(self.remote.environment())


def _replace(found: Iterable[Pointer], objects: Path) -> list[Pointer]:
    """Put objects in the place of pointers; the pointers whose objects are missing."""
    for pointer in found:
        pointers.make_own(pointer, objects)
    return [pointer for pointer in found if not pointers.replace(pointer, objects)]


def _progress(found: Sequence[Pointer], lfs: Path) -> Progress:
    """By what is on the disk: whole objects, and the bytes of those to come."""
    sizes = {pointer.oid: pointer.size for pointer in found}
    whole = {pointer.oid for pointer in found if pointer.object(lfs / "objects").exists()}
    total = sum(sizes.values())
    return Progress(len(whole), len(sizes), min(total, trees.size(lfs)), total)


def _received(match: re.Match[str]) -> Progress:
    size = int(float(match[3]) * _UNITS[match[4]]) if match[3] else 0
    return Progress(int(match[1]), int(match[2]), size)


def why(source: Source, lines: Sequence[str]) -> Failure:
    """What git means by these lines, the last that it has written."""
    remote = Remote.of(source)
    return told(_TROUBLES, lines, _verdict(lines), *remote.secrets, name=remote.token)


def _verdict(lines: Sequence[str]) -> str:
    """The line that says it, of those that git writes when it gives up."""
    for mark in ("fatal: ", "error: ", "batch "):
        for line in lines:
            if line.startswith(mark):
                return _SAYING.sub("", line)
    return lines[-1] if lines else ""
