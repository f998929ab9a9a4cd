"""A real Docker, rootful, with nothing in common with the machine's: mounts, processes, storage of its own.

As kit.podman: it lives in the network of the process that makes it, which has to be one of its own, and all
that it ever starts ends with the first process of a process namespace.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kit.namespaces import in_own_network
from kit.until import until
from kit.world import DIES_WITH_US, World

# /run has its names of networks and the sockets of containerd, which has a folder in /opt, too.
_ENTRY = """
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /opt
"""
_CGROUPS = Path("/sys/fs/cgroup")


class Docker:
    """`dockerd` with a containerd of its own; a context manager that leaves nothing behind.

    `settings` are those of daemon.json. Containers live on while it is away, as they do with Podman; Docker's
    own default is another (`live-restore`): then they end when it is stopped, and when it begins.
    """

    def __init__(self, folder: Path, *, storage: Path | None = None, **settings: Any) -> None:
        self.folder = folder
        self.storage = storage or folder / "storage"
        self.socket = folder / "docker.sock"
        self._settings = {"live-restore": True} | settings
        self._trusted: list[str] = []
        self._world: World | None = None
        self._service: subprocess.Popen[bytes] | None = None
        self._parent = f"hale-tests-{os.getpid()}-{os.urandom(4).hex()}"

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        """What the daemon wrote."""
        return self.folder / "docker.log"

    def __enter__(self) -> "Docker":
        if not in_own_network():
            raise RuntimeError("cannot start Docker: it is not for the machine's own network")
        try:
            (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
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
        """Start the daemon and return once it answers; running already is not an error."""
        if self._service is not None and self._service.poll() is None:
            return
        self.socket.unlink(missing_ok=True)
        # One that was killed has left it there, and its number may be another's by now.
        (self.folder / "docker.pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._service = subprocess.Popen(
                self._inside(*DIES_WITH_US, "dockerd", "--config-file", str(self._file)),
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, within=within, what=lambda: f"Docker answers; its log: {self.log.read_text()}")

    def stop(self, *, gently: bool = False) -> None:
        """Kill the daemon: its containers live on until it is back. Gently: as a service is stopped."""
        if self._service is not None:
            if gently:
                self._signal(signal.SIGTERM)
                self._service.wait(60)
            else:
                self._signal(signal.SIGKILL)
                self._service.wait()
            self._service = None
        until(lambda: not self._connects(), what="nobody listens at Docker's socket")

    def restart(self, *, gently: bool = False) -> None:
        self.stop(gently=gently)
        self.start()

    def end(self) -> None:
        """End the daemon, all containers and everything else that it started, and remove its folders."""
        if self._world is not None:
            self._world.end()
        if self._service is not None:
            self._service.kill()
            self._service.wait()
        self._world = self._service = None
        self._remove_cgroups()
        shutil.rmtree(self.folder, ignore_errors=False)

    # --- its use ----------------------------------------------------------------------------

    def run(self, *arguments: str, check: bool = True, within: float = 120.0) -> str:
        """`docker <arguments>`; what it wrote to stdout, stripped."""
        done = subprocess.run(
            ["docker", "--host", self.url, *arguments],
            env=self._env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def load(self, archive: Path) -> str:
        """Load an archive of an image; its id."""
        name = self.run("load", "--quiet", "--input", str(archive)).rpartition("Loaded image: ")[2]
        return self.run("image", "inspect", "--format", "{{.Id}}", name)

    def push(self, name: str, username: str, password: str) -> None:
        """Push an image to the registry that its name begins with."""
        self.run("login", "--username", username, "--password", password, name.partition("/")[0])
        self.run("push", name)
        self.run("logout", name.partition("/")[0])

    def id_of(self, image: str) -> str:
        """`sha256:...` of an image that is here."""
        return self.run("image", "inspect", "--format", "{{.Id}}", image)

    def inspect(self, container: str) -> Any:
        """What Docker knows of a container."""
        return json.loads(self.run("container", "inspect", container))[0]

    def log_of(self, container: str) -> Path:
        """The file in which Docker keeps what a container writes: a line for each line."""
        return Path(self.inspect(container)["LogPath"])

    def remove(self, container: str) -> None:
        self.run("rm", "--force", container)

    def containers(self, *filters: str) -> list[str]:
        """Names of all containers, of those too that have ended; filters as `label=key=value`."""
        wanted = [option for each in filters for option in ("--filter", each)]
        return sorted(self.run("ps", "--all", "--format", "{{.Names}}", *wanted).split())

    def clear(self) -> None:
        """Remove every container and every network but Docker's own: for the next test."""
        self.start()
        if containers := self.containers():
            self.run("rm", "--force", *containers)
        self.run("network", "prune", "--force")

    def set_up(self, **settings: Any) -> None:
        """Change settings of daemon.json, None for Docker's own; restarts the daemon."""
        self._settings |= settings
        self._configure()
        if self._service is not None:
            self.restart(gently=True)

    @contextlib.contextmanager
    def without(self, program: str) -> Iterator[None]:
        """Hide a program from the daemon."""
        path = shutil.which(program, path=self._env()["PATH"])
        assert path is not None, f"there is no {program} to hide"
        subprocess.run(self._inside("mount", "--bind", "/dev/null", path), env=self._env(), check=True)
        try:
            yield
        finally:
            subprocess.run(self._inside("umount", path), env=self._env(), check=True)

    def trust(self, *registries: str) -> None:
        """Speak to these (`host:port`) without TLS, or without asking who it is."""
        self._trusted += registries
        self._configure()
        if self._service is not None:
            self._signal(signal.SIGHUP)
            until(
                self._trusts_all, what=lambda: f"Docker trusts {registries}; its log: {self.log.read_text()}"
            )

    # --- how --------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self.folder / "daemon.json"

    def _configure(self) -> None:
        wanted = {
            "hosts": [self.url],
            "group": "root",
            "data-root": str(self.storage),
            "exec-root": "/run/docker",
            "pidfile": str(self.folder / "docker.pid"),
            "deprecated-key-path": str(self.folder / "key.json"),
            "cgroup-parent": f"/{self._parent}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "insecure-registries": self._trusted,
            **{name: value for name, value in self._settings.items() if value is not None},
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(wanted))
        part.replace(self._file)

    def _env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # dockerd, iptables and nsenter may be where an ordinary user does not look.
        path = f"{kept.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
        folder = str(self.folder)
        return kept | {"PATH": path, "HOME": folder, "DOCKER_CONFIG": folder, "TMPDIR": f"{folder}/tmp"}

    def _inside(self, *command: str) -> list[str]:
        assert self._world is not None
        return self._world.inside(*command)

    def _signal(self, number: signal.Signals) -> None:
        """To dockerd itself, a child of nsenter, which passes nothing on."""
        assert self._service is not None
        pid = self._service.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def _trusts_all(self) -> bool:
        known = json.loads(self.run("info", "--format", "{{json .RegistryConfig.IndexConfigs}}"))
        return all(each in known for each in self._trusted)

    def _connects(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _answers(self) -> bool:
        assert self._service is not None
        assert self._service.poll() is None, f"Docker has ended: {self.log.read_text()}"
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(10)
            client.connect(str(self.socket))
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in client.recv(1000)
        return False

    def _remove_cgroups(self) -> None:
        for group in [*_CGROUPS.glob(self._parent), *_CGROUPS.glob(f"*/{self._parent}")]:
            for inner in [*sorted(group.rglob("*/"), reverse=True), group]:
                with contextlib.suppress(OSError):
                    inner.rmdir()
