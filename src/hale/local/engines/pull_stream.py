"""What an engine tells while it pulls, as Progress. Pure.

Docker and Podman send the same records, one for each step of a layer. Docker goes on after the download
(it unpacks), Podman ends with it, and counts the image's own description as one more layer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hale.core.image import Progress

_DONE = frozenset({"Pull complete", "Already exists"})
_DOWNLOADED = "Download complete"
_STEPS = frozenset(
    {"Pulling fs layer", "Waiting", "Downloading", "Retrying", "Verifying Checksum", "Extracting"}
) | {_DOWNLOADED, *_DONE}
_DIGEST = re.compile(r"Digest: (sha256:[0-9a-f]{64})")


@dataclass(slots=True)
class _Layer:
    done: bool = False
    current: int = 0
    total: int = 0


class PullStream:
    """One pull. `digest` is what Docker says at its end that the name stands for; Podman does not."""

    def __init__(self, *, podman: bool) -> None:
        self._done = _DONE | {_DOWNLOADED} if podman else _DONE
        self._layers: dict[str, _Layer] = {}
        self.digest: str | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        status = str(record.get("status") or "")
        if found := _DIGEST.match(status):
            self.digest = found[1]
        step = next((step for step in _STEPS if status.startswith(step)), None)
        identity = record.get("id")
        if step is None or not isinstance(identity, str):
            return
        layer = self._layers.setdefault(identity, _Layer())
        layer.done = layer.done or step in self._done
        if step == "Downloading":
            detail = record.get("progressDetail") or {}
            layer.current = int(detail.get("current") or 0)
            layer.total = max(layer.total, int(detail.get("total") or 0), layer.current)
        elif step == _DOWNLOADED or layer.done:
            layer.current = layer.total

    @property
    def progress(self) -> Progress:
        layers = self._layers.values()
        return Progress(
            sum(layer.done for layer in layers),
            len(layers),
            sum(layer.current for layer in layers),
            sum(layer.total for layer in layers),
        )
