"""Trees of files, in a thread: walked, made read-only, flushed, removed. Links are never followed."""

import ctypes
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(folder: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each folder, the outer ones first, with what is in it; as deep as it goes."""
    waiting = [str(folder)]
    while waiting:
        path = waiting.pop()
        with os.scandir(path) as found:
            entries = list(found)
        yield path, entries
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def make_read_only(folder: Path) -> None:
    """Whoever can reach it may read all of it, nobody may write; what can be run still can."""
    for path, entries in walk(folder):
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                os.chmod(entry.path, 0o555 if mode & stat.S_IXUSR else 0o444)  # noqa: PTH101
        os.chmod(path, 0o555)  # noqa: PTH101, S103


def flush(folder: Path) -> None:
    """Return when all that was written to its file system has reached the disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | _FOLDER)
    try:
        if libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def flush_names(folder: Path) -> None:
    """Return when what the folder calls what is in it has reached the disk."""
    descriptor = os.open(folder, os.O_RDONLY | _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size(folder: Path) -> int:
    """Bytes of all files in it; what comes and goes meanwhile may be missing."""
    total = 0
    with suppress(FileNotFoundError):
        for _, entries in walk(folder):
            for entry in entries:
                with suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size if entry.is_file() else 0
    return total


def contents(folder: Path) -> tuple[int, int]:
    """How many files are in it, and their bytes; each name counts."""
    stats = (entry.stat(follow_symlinks=False) for _, entries in walk(folder) for entry in entries)
    sizes = [found.st_size for found in stats if stat.S_ISREG(found.st_mode)]
    return len(sizes), sum(sizes)


def remove(folder: Path) -> None:
    """All that can be removed, also where the write bits are gone; absent is not an error.

    Inner folders are moved to the top one by one, so that no depth is too deep. OSError says what stays.
    """
    try:
        _unlock(str(folder), None)
        top = os.open(folder, os.O_RDONLY | _FOLDER)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        folder.unlink()
        return
    try:
        trouble = _empty(top)
    finally:
        os.close(top)
    if trouble is not None:
        raise trouble
    folder.rmdir()


def _empty(top: int) -> OSError | None:
    """The first of the errors that kept something from being removed."""
    token, numbers = secrets.token_hex(8), itertools.count()
    waiting, trouble = _strip(top)
    while waiting:
        name = waiting.pop()
        try:
            inner = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=top)
            try:
                folders, inner_trouble = _strip(inner)
                trouble = trouble or inner_trouble
                for folder in folders:
                    waiting.append(f"{token}-{next(numbers)}")
                    os.rename(folder, waiting[-1], src_dir_fd=inner, dst_dir_fd=top)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
        except OSError as error:
            trouble = trouble or error
    return trouble


def _strip(folder: int) -> tuple[list[str], OSError | None]:
    """Unlink all in it but folders; their names."""
    folders, trouble = [], None
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                _unlock(entry.name, folder)
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
        except OSError as error:
            trouble = trouble or error
    return folders, trouble


def _unlock(name: str, within: int | None) -> None:
    """Give a folder of ours the bits that it takes to empty and to move it."""
    descriptor = os.open(name, os.O_PATH | _FOLDER, dir_fd=within)
    try:
        with suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)  # noqa: PTH101
    finally:
        os.close(descriptor)
