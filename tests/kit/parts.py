"""The real parts that tests need: Debian packages, and a Debian with Python as the base of an image.

`python -m kit.parts` gets them as root on Debian, from apt's own mirrors; what is here already is left as it
is, and two runs wait for each other. Tests ask with `need`: what is missing skips them, with words, but in CI
it is a failure.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.images import BUSYBOX
from kit.namespaces import enter_own_network, in_own_network
from kit.podman import Podman

ROOT = Path(__file__).parents[2]
PARTS = ROOT / ".parts"
BASE = "localhost/debian-python:12"
"""The image that the base is called in `base_store()`."""

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/podman"
_COMMANDS: Mapping[str, str] = {
    "podman": "podman",
    "runc": "runc",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
    "iptables": "iptables",
    "catatonit": "catatonit",
    "util-linux": "nsenter",
    "docker-registry": "docker-registry",
    "debootstrap": "debootstrap",
    "git": "git",
    "git-lfs": "git-lfs",
    "docker.io": "dockerd",
}
PODMAN = (
    "podman",
    "runc",
    "netavark",
    "aardvark-dns",
    "iptables",
    "catatonit",
    "busybox-static",
    "util-linux",
)
DOCKER = ("docker.io", "iptables", "catatonit", "busybox-static", "util-linux")
PACKAGES = (*_COMMANDS, "busybox-static")
_SERVICES: Mapping[str, tuple[str, ...]] = {
    "docker-registry": ("docker-registry.service",),
    "docker.io": ("docker.service", "docker.socket"),
}
"""What Debian would start with the machine, of packages that are here for tests alone."""

# Debian 12, whose FastAPI speaks pydantic 1, whatever this machine's Debian is.
_SUITE = "bookworm"
_INCLUDED = ("python3-fastapi", "python3-uvicorn", "python3-botocore")
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n")
_LEFT_OUT += ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/log")


def lacking(*packages: str) -> list[str]:
    """Those Debian packages of PACKAGES whose programs are not on this machine."""
    return [name for name in packages if not _is_here(name)]


def need(*packages: str) -> None:
    """Skip the test that asks unless these are here and Podman can run; in CI that is a failure instead."""
    if not in_own_network():
        _lacks("needs root on Linux, and the right to make namespaces")
    if missing := lacking(*packages):
        _lacks(f"needs {', '.join(missing)}: make parts")


def need_base() -> None:
    """The same for `base_store()`."""
    if base_store() is None:
        _lacks("needs the Debian image with Python: make parts")


def base_store() -> Path | None:
    """The store of images with BASE, for Podman(images=...); None if there is none."""
    return store if (store := _base()).is_dir() else None


def app_image(podman: Podman, version: str) -> str:
    """Build examples/container for a Podman that has `base_store()`; the name of the image."""
    name = f"localhost/iris:{version}"
    # Its cache takes one VERSION for the other.
    options = (
        "--no-cache",
        "--build-arg",
        f"BASE={BASE}",
        "--build-arg",
        f"VERSION={version}",
        "--pull=never",
    )
    podman.run("build", "--quiet", "--tag", name, *options, str(ROOT / "examples/container"), within=600)
    return name


def _lacks(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"this test {why}", pytrace=False)
    pytest.skip(why)


def _is_here(package: str) -> bool:
    if package == "busybox-static":  # the package busybox has its program in the same place
        return BUSYBOX.is_file() and b"/ld-linux" not in BUSYBOX.read_bytes()
    return shutil.which(_COMMANDS[package], path=_PATH) is not None


# --- getting them ---------------------------------------------------------------------------


def main() -> int:
    """Get what is missing; 1 if it is missing still and CI is set."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return _without("this is not root on Debian")
    PARTS.mkdir(exist_ok=True)
    try:
        with (PARTS / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _install(lacking(*PACKAGES))
            if not _base().is_dir():
                _make_base(_base())
    except subprocess.CalledProcessError as error:
        return _without(f"{error.cmd[0]} ended with {error.returncode}")
    return 0


def _without(why: str) -> int:
    in_ci = bool(os.environ.get("CI"))
    missing = lacking(*PACKAGES) + ([] if _base().is_dir() else ["the Debian image with Python"])
    if not missing:
        return 0
    _say(f"cannot get {', '.join(missing)}: {why}")
    _say("tests that need them " + ("fail" if in_ci else "are skipped"))
    return int(in_ci)


def _say(what: str) -> None:
    sys.stderr.write(f"parts: {what}\n")


def _install(packages: list[str]) -> None:
    if not packages:
        return
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
    subprocess.run([*apt, "update"], env=quiet, check=False)
    with _no_services():
        command = [*apt, "install", "-y", "--no-install-recommends", *packages]
        subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=True)
    unwanted = [unit for name in packages for unit in _SERVICES.get(name, ())]
    if unwanted and shutil.which("systemctl"):
        subprocess.run(["systemctl", "--quiet", "disable", *unwanted], check=False)


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts what it installs, unless this file says no."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _base() -> Path:
    recipe = repr((_SUITE, _INCLUDED, _LEFT_OUT, BASE))
    return PARTS / f"debian-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _make_base(store: Path) -> None:
    """Bootstrap a Debian with Python and FastAPI, and keep it as the one image of a store."""
    _say("making a Debian with Python, which takes a minute or two")
    with tempfile.TemporaryDirectory(dir=PARTS, prefix="making-") as made:
        root, tar = Path(made, "root"), Path(made, "root.tar")
        options = ["--variant=minbase", f"--include={','.join(_INCLUDED)}", _SUITE, str(root), _mirror()]
        with (PARTS / "debootstrap.log").open("wb") as log:
            subprocess.run(["debootstrap", *options], stdout=log, stderr=log, env=_with_proxy(), check=True)
        left_out = [f"--exclude=./{each}/*" for each in (*_LEFT_OUT, "dev", "proc", "sys")]
        subprocess.run(["tar", "-C", str(root), *left_out, "-cf", str(tar), "."], check=True)
        enter_own_network()
        with Podman(Path(made, "podman"), storage=Path(made, "store")) as podman:
            podman.run("import", "--change", 'CMD ["python3"]', str(tar), BASE, within=600)
        Path(made, "store").rename(store)


def _mirror() -> str:
    """Where apt gets Debian itself from."""
    form = "$(ORIGIN) $(COMPONENT) $(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [line.split()[2] for line in listed.splitlines() if line.startswith("Debian main ")]
    if not found:
        raise subprocess.CalledProcessError(1, command)
    return next((each for each in found if "security" not in each), found[0])


def _with_proxy() -> dict[str, str]:
    """The environment with apt's proxy, which debootstrap does not read by itself."""
    command = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    name, _, value = told.strip().partition("=")
    return os.environ | ({name: value.strip("'")} if value else {})


if __name__ == "__main__":
    sys.exit(main())
