"""A real Podman, rootful, with nothing in common with the machine's: its own mounts, processes, storage.

It lives in the network of the process that makes it, which has to be one of its own (kit.namespaces):
containers are reached at their own addresses from there. All it ever starts are children of one process,
the first of a process namespace: when that ends, however it does, the kernel ends all the others.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kit.namespaces import in_own_network
from kit.until import until
from kit.world import DIES_WITH_US, World

_ENTRY = """
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mkdir -p /var/lib/containers
mount -t tmpfs tmpfs /var/lib/containers
"""
# runc, since crun refuses hybrid cgroups; limits below those of any shell that starts the tests, since
# Podman's own can exceed what a virtual machine allows.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
image_copy_tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{storage}"
runroot = "/run/storage"
[storage.options]
additionalimagestores = [{images}]
"""
_CGROUPS = Path("/sys/fs/cgroup")


class Podman:
    """`podman system service` on a store of its own; a context manager that leaves nothing behind.

    `images` is a store whose images can be used and not changed, `storage` where the own ones are kept
    (default: in `folder`, which goes at the end). `socket` speaks the Docker and the libpod API.
    """

    def __init__(self, folder: Path, *, images: Path | None = None, storage: Path | None = None) -> None:
        self.folder = folder
        self.storage = storage or folder / "storage"
        self.socket = folder / "podman.sock"
        self._images = images
        self._trusted: list[str] = []
        self._world: World | None = None
        self._service: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        """What the service wrote."""
        return self.folder / "podman.log"

    @property
    def processes(self) -> list[int]:
        """Pids of Podman, its monitors and all else that runs outside of containers."""
        return self._world.processes if self._world is not None else []

    def __enter__(self) -> "Podman":
        if not in_own_network():
            raise RuntimeError("cannot start Podman: it is not for the machine's own network")
        try:
            self._configure()
            self._world = World(_ENTRY, self._env())
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    # --- its life ---------------------------------------------------------------------------

    def start(self, *, within: float = 60.0) -> None:
        """Start the service and return once it answers; running already is not an error."""
        if self._service is not None and self._service.poll() is None:
            return
        self.socket.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._service = subprocess.Popen(
                self._inside(*DIES_WITH_US, *self._podman("system", "service", "--time=0", self.url)),
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, within=within, what=lambda: f"Podman answers; its log: {self.log.read_text()}")

    def stop(self) -> None:
        """Kill the service; containers live on, and nobody answers at the socket."""
        if self._service is not None:
            self._service.kill()
            self._service.wait()
            self._service = None
        until(lambda: not self._connects(), what="nobody listens at Podman's socket")

    def restart(self) -> None:
        """Kill the service and start it again; containers live on."""
        self.stop()
        self.start()

    def end(self) -> None:
        """End the service, all containers and everything else that it started, and remove its folders."""
        if self._world is not None:
            self._world.end()
        if self._service is not None:
            self._service.kill()
            self._service.wait()
        self._world = self._service = None
        self._remove_cgroups()
        shutil.rmtree(self.folder, ignore_errors=False)

    # --- its use ----------------------------------------------------------------------------

    def run(self, *arguments: str, check: bool = True, within: float = 120.0, stderr: bool = False) -> str:
        """`podman <arguments>` on the same store; what it wrote (without stderr, if not wanted), stripped."""
        done = subprocess.run(
            self._inside(*self._podman(*arguments)),
            env=self._env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"podman {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return (done.stdout + (done.stderr if stderr else "")).strip()

    def load(self, archive: Path) -> str:
        """Load an archive of an image (Docker's or OCI's); its id."""
        name = self.run("load", "--quiet", "--input", str(archive)).rpartition("Loaded image: ")[2]
        return self.run("image", "inspect", "--format", "{{.Id}}", name)

    def push(self, name: str, username: str, password: str) -> None:
        """Push an image to the registry that its name begins with."""
        self.run("push", "--creds", f"{username}:{password}", name)

    def id_of(self, image: str) -> str:
        """`sha256:...` of an image that is here."""
        return "sha256:" + self.run("image", "inspect", "--format", "{{.Id}}", image)

    def inspect(self, container: str) -> Any:
        """What Podman knows of a container."""
        return json.loads(self.run("container", "inspect", container))[0]

    def log_of(self, container: str) -> Path:
        """The file in which Podman keeps what a container writes: a line for each line."""
        return Path(self.inspect(container)["HostConfig"]["LogConfig"]["Path"])

    def remove(self, container: str) -> None:
        self.run("rm", "--force", "--time", "0", container)

    def containers(self, *filters: str) -> list[str]:
        """Names of all containers, of those too that have ended; filters as `label=key=value`."""
        wanted = [option for each in filters for option in ("--filter", each)]
        return sorted(self.run("ps", "--all", "--format", "{{.Names}}", *wanted).split())

    def clear(self) -> None:
        """Remove every container and every network but Podman's own: for the next test."""
        self.start()
        self.run("rm", "--all", "--force", "--time", "0")
        self.run("network", "prune", "--force")

    def trust(self, *registries: str) -> None:
        """Speak to these (`host:port`) without TLS, or without asking who it is; restarts the service."""
        self._trusted += registries
        self._write_registries()
        if self._service is not None:
            self.restart()

    # --- how --------------------------------------------------------------------------------

    def _configure(self) -> None:
        for name in ("tmp", "networks", ".config/containers"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        images = f'"{self._images}"' if self._images else ""
        texts = {
            "containers.conf": _CONTAINERS_CONF.format(folder=self.folder),
            "storage.conf": _STORAGE_CONF.format(folder=self.folder, storage=self.storage, images=images),
            ".config/containers/policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
            "auth.json": "{}",
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        self._write_registries()

    def _write_registries(self) -> None:
        tables = (f'[[registry]]\nlocation = "{each}"\ninsecure = true\n' for each in self._trusted)
        (self.folder / "registries.conf").write_text("unqualified-search-registries = []\n" + "".join(tables))

    def _env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # nsenter, unshare, runc and netavark may be where an ordinary user does not look.
        path = f"{kept.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
        return kept | {
            "PATH": path,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "REGISTRY_AUTH_FILE": str(self.folder / "auth.json"),
        }

    def _inside(self, *command: str) -> list[str]:
        assert self._world is not None
        return self._world.inside(*command)

    def _podman(self, *arguments: str) -> Iterable[str]:
        return [
            "podman",
            "--tmpdir=/run/libpod",
            f"--network-config-dir={self.folder}/networks",
            *arguments,
        ]

    def _connects(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _answers(self) -> bool:
        assert self._service is not None
        assert self._service.poll() is None, f"Podman has ended: {self.log.read_text()}"
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(10)
            client.connect(str(self.socket))
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: podman\r\n\r\n")
            return b" 200 " in client.recv(1000)
        return False

    def _remove_cgroups(self) -> None:
        """runc removes a container's when it ends by itself; killed with the rest, it leaves an empty one."""
        ids = [path.name for path in (self.storage / "overlay-containers").glob("*") if path.is_dir()]
        for parent in [*_CGROUPS.glob("libpod_parent"), *_CGROUPS.glob("*/libpod_parent")]:
            for group in [parent / f"libpod-{each}" for each in ids]:
                for inner in [*sorted(group.rglob("*/"), reverse=True), group]:
                    with contextlib.suppress(OSError):
                        inner.rmdir()
