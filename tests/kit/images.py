"""Images made on the spot, none from outside: a static busybox from scratch, for any registry and engine.

They are values: put together in memory, the same bytes each time. `archive` is for `podman load`,
kit.registry pushes them over HTTP, so that there can be images that no builder here could make.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
"""Of Debian's busybox-static: needs nothing else in the image."""

_APPLETS = (
    "cat chmod date echo env false head httpd id kill ln ls mkdir mv nc printf ps pwd rm sh sleep stat "
)
_APPLETS += "sync test touch trap true uname wc wget"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

SERVE = """
mkdir -p /www
for name in startup readiness liveness; do echo ok >/www/$name; done
echo "${VERSION:-1}" >/www/index.html
trap 'kill $server; exit 0' TERM INT
httpd -f -p "${PORT:-8000}" -h /www &
server=$!
wait $server
"""
"""What the web image runs: a file per check, so that `rm` breaks the check and `touch` heals it."""


def architecture() -> str:
    """This machine's, in the words of images."""
    return _MACHINES.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Image:
    """Layers (uncompressed tars) and what to run; `config` is the Config of an OCI image."""

    layers: tuple[bytes, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = field(default_factory=architecture)
    os: str = "linux"

    def with_layer(self, files: Mapping[str, bytes | str]) -> "Image":
        return replace(self, layers=(*self.layers, layer(files)))

    def with_config(self, **config: Any) -> "Image":
        return replace(self, config={**self.config, **config})

    @cached_property
    def config_json(self) -> bytes:
        document = {
            "architecture": self.architecture,
            "os": self.os,
            "created": "2023-06-10T00:00:00Z",
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in self.layers]},
            "history": [{"created": "2023-06-10T00:00:00Z"} for _ in self.layers],
        }
        return json.dumps(document, sort_keys=True).encode()

    @property
    def id(self) -> str:
        """What engines call it, `sha256:...`."""
        return digest(self.config_json)

    def archive(self, path: Path, name: str) -> Path:
        """Write it as `docker save` does, named `localhost/web:1` or the like."""
        layers = {f"{digest(each)[7:]}.tar": each for each in self.layers}
        config = f"{self.id[7:]}.json"
        manifest = [{"Config": config, "RepoTags": [name], "Layers": list(layers)}]
        path.write_bytes(
            layer({**layers, config: self.config_json, "manifest.json": json.dumps(manifest).encode()})
        )
        return path


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(files: Mapping[str, bytes | str]) -> bytes:
    """A tar of files (bytes; executable, it does no harm) and symbolic links (text: where to)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.lstrip("/"))
            info.mode = 0o755
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@cache
def busybox(*command: str) -> Image:
    """A shell with its tools; runs the command, by default until it is told to end."""
    files: dict[str, bytes | str] = {"/bin/busybox": BUSYBOX.read_bytes()}
    files |= {f"/bin/{applet}": "busybox" for applet in _APPLETS.split()}
    files |= {"/etc/passwd": b"root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n", "/tmp/.keep": b""}
    until_told = ("sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 0.1; done")
    return Image(
        (layer(files),), {"Cmd": list(command or until_told), "Env": ["PATH=/bin"], "WorkingDir": "/"}
    )


@cache
def web(version: str = "1") -> Image:
    """Serves $PORT (default 8000): / says the version, /startup, /readiness and /liveness files of /www."""
    start = busybox("/serve").with_layer({"/serve": f"#!/bin/sh{SERVE}".encode()})
    env = [*start.config["Env"], f"VERSION={version}"]
    return start.with_config(Env=env, ExposedPorts={"8000/tcp": {}}, Labels={"version": version})


@cache
def single_binary() -> Image:
    """Nothing but one static program, which serves /www on 8000: no shell, no `kill`, no `sleep`."""
    checks = {f"/www/{name}": b"ok\n" for name in ("startup", "readiness", "liveness", "index.html")}
    files: dict[str, bytes | str] = {"/busybox": BUSYBOX.read_bytes(), **checks}
    config = {"Entrypoint": ["/busybox"], "Cmd": ["httpd", "-f", "-p", "8000", "-h", "/www"]}
    return Image((layer(files),), {**config, "ExposedPorts": {"8000/tcp": {}}})


def everyday() -> Mapping[str, Image]:
    """By name those that the tests' Podman has."""
    return {
        "localhost/busybox:1": busybox(),
        "localhost/web:1": web("1"),
        "localhost/web:2": web("2"),
        "localhost/single:1": single_binary(),
    }
