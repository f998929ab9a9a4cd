"""Whether a command is in its image, asked before it is started.

Started by an init, one that is not there looks like a program that ended at once.
"""

import posixpath
from collections.abc import Iterator

from hale.errors import EngineError
from hale.local.engines.container_api import Api, engine_errors

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What engines set where the image does not."""
_KNOWN = 1000
_NOT_FOUND = 404


class Commands:
    """Remembers what was found: a pinned image does not change."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._found: dict[tuple[str, str, str], None] = {}

    async def check(self, container: str, image: str, word: str, path: str, folder: str) -> None:
        """EngineError if it has no such command. `image` is its digest, or "" if that is not known."""
        key = (image, word, path)
        if key in self._found:
            return
        for place in _places(word, path or _PATH, folder):
            if await self._there(container, place):
                if image:
                    self._found[key] = None
                if len(self._found) > _KNOWN:
                    del self._found[next(iter(self._found))]
                return
        raise EngineError("command not found in the image")

    async def _there(self, container: str, path: str) -> bool:
        url = self._api.url(f"containers/{container}/archive", path=path)
        with engine_errors(f"look for {path} in the image"):
            async with self._api.docker.session.head(url) as response:
                return response.status != _NOT_FOUND


def _places(word: str, path: str, folder: str) -> Iterator[str]:
    if "/" in word:
        yield posixpath.join(folder or "/", word)
        return
    for each in path.split(":"):
        yield posixpath.join(folder or "/", each, word)
