"""Whether this machine runs programs of another architecture. The names are Go's, as images have them."""

from pathlib import Path

_SYNONYMS = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armv7l": "arm",
    "i386": "386",
    "i686": "386",
}
_ALSO = {"amd64": frozenset({"386"}), "arm64": frozenset({"arm"})}
"""What a processor runs besides its own."""
_OF_EMULATORS = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
"""Where the kernel says which emulators it starts by itself."""


def normal(architecture: str) -> str:
    return _SYNONYMS.get(architecture, architecture)


def runs(of_image: str, of_machine: str, *, binfmt: Path = BINFMT) -> bool:
    """An image that does not say what it is for is taken to be for any."""
    image, machine = normal(of_image), normal(of_machine)
    if not image or not machine or image == machine or image in _ALSO.get(machine, ()):
        return True
    try:
        return (binfmt / f"qemu-{_OF_EMULATORS.get(image, image)}").read_text().startswith("enabled")
    except OSError:
        return False
