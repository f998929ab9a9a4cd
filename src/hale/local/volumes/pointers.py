"""Pointers of git-lfs, which stand for files until those are fetched."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hale.local.volumes import trees

_LONGEST = 1024
"""Bytes of a pointer: the specification of git-lfs wants fewer."""
_FIRST = rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n"
_POINTER = re.compile(_FIRST + rb"(?:[^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n?")


@dataclass(frozen=True, slots=True)
class Pointer:
    """The file at `path` is to be the object `oid`."""

    path: Path
    oid: str
    size: int

    def object(self, objects: Path) -> Path:
        """Where git-lfs puts it."""
        return objects / self.oid[:2] / self.oid[2:4] / self.oid


def find(folder: Path) -> list[Pointer]:
    """Every pointer in the folder."""
    return list(_find(folder))


def make_own(pointer: Pointer, objects: Path) -> None:
    """Have a copy where git-lfs took the very file, as it does from a repository of this machine."""
    found = pointer.object(objects)
    if found.is_file() and found.stat().st_nlink > 1:
        copy = found.with_suffix(".copy")
        shutil.copyfile(found, copy)
        copy.replace(found)


def replace(pointer: Pointer, objects: Path) -> bool:
    """Put the object in the pointer's place, without a copy; False if it is not there."""
    found = pointer.object(objects)
    if not found.is_file() or found.stat().st_size != pointer.size:
        return False
    if os.access(pointer.path, os.X_OK):
        found.chmod(0o755)
    pointer.path.unlink()
    pointer.path.hardlink_to(found)
    return True


def _find(folder: Path) -> Iterator[Pointer]:
    for _, entries in trees.walk(folder):
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) or not 0 < entry.stat().st_size < _LONGEST:
                continue
            path = Path(entry.path)
            if found := _POINTER.fullmatch(path.read_bytes()):
                yield Pointer(path, found[1].decode(), int(found[2]))
