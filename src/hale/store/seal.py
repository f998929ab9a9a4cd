"""Sealing what must not be read from a disk. The key is a file of its own beside the database.

The key is made at the first use, whole or not at all, and never replaced: what is sealed with it would
be lost.
"""

import os
import stat
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from hale.errors import StoreError

PUT_BACK = "put the file `key` of the same backup there; without it what is sealed cannot be read"


class Seal:
    """Makes text unreadable and readable again. Not for two threads at a time."""

    def __init__(self, path: Path, cipher: Fernet | None = None) -> None:
        self._path = path
        self._cipher = cipher

    @classmethod
    def open(cls, path: Path, sample: str | None) -> "Seal":
        """The seal of a database; `sample` is something that is sealed in it already. Blocks."""
        if path.exists():
            seal = cls(path, _read(path))
        elif sample is None:
            seal = cls(path)
        else:
            raise StoreError(
                f"cannot read the secrets of the database: their key {path} is not there", hint=PUT_BACK
            )
        if sample is not None:
            seal.unsealed(sample)
        return seal

    def sealed(self, text: str) -> str:
        """Blocks at the first use, when the key is made."""
        plain = text.encode()
        if self._cipher is None:
            if not self._path.exists():
                _make(self._path)
            self._cipher = _read(self._path)
        return self._cipher.encrypt(plain).decode("ascii")

    def unsealed(self, text: str) -> str:
        try:
            if self._cipher is not None:
                return self._cipher.decrypt(text.encode()).decode()
        except InvalidToken:
            pass
        raise StoreError(
            f"cannot read the secrets of the database: they are not sealed with the key {self._path}",
            hint=PUT_BACK,
        )


def _read(path: Path) -> Fernet:
    doing = f"cannot use the key {path}"
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise StoreError(
            f"{doing}: others than its owner can use it (mode {mode:04o})",
            hint=f"chmod 600 {path}; if somebody else may have read it, change what the secrets open too",
        )
    try:
        return Fernet(path.read_bytes().strip())
    except ValueError:
        raise StoreError(f"{doing}: there is no key in it", hint=PUT_BACK) from None


def _make(path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
