"""What a container is made of, and what its engine says of it in hale's words. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hale.core.deployment import Template
from hale.core.probe import HttpAction, TcpAction
from hale.core.volume import Mount
from hale.local.engines.container_api import Host
from hale.local.engines.expand import expand
from hale.ports import Instance, Launch

NETWORK = "hale"
SERVER, REPLICA, ATTEMPT = "hale.server", "hale.replica", "hale.attempt"
"""Labels: which installation of hale it belongs to, and what it is there."""

_DEPLOYMENT, _SLUG, _REVISION = "hale.deployment", "hale.slug", "hale.revision"
_PORTS, _NOTES = "hale.ports", "hale.notes"
_LOOPBACK = "127.0.0.1"
_EVERYWHERE = "0.0.0.0"  # noqa: S104  (inside the container)
_BILLION = 10**9
_SIGNALLED = range(129, 193)
"""Exit codes that stand for the end by a signal."""
_LOGS = {
    # Copied every few seconds; what is kept there is for those who write a great deal in between.
    True: {"Type": "k8s-file", "Config": {"max-size": "32m"}},
    False: {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}},
}
_HOSTS = ["host.docker.internal:host-gateway", "host.containers.internal:host-gateway"]
_EXPOSED = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/tcp)?")
_FRACTION = re.compile(r"\.(\d+)")


@dataclass(frozen=True, slots=True)
class Image:
    """What an image brings along: variables, the ports that it says it listens on, where it runs."""

    env: Mapping[str, str]
    exposed: frozenset[int] = frozenset()
    folder: str = "/"

    @classmethod
    def read(cls, inspected: Mapping[str, Any]) -> "Image":
        config = inspected.get("Config") or inspected.get("ContainerConfig") or {}
        env = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        exposed = frozenset(port for name in config.get("ExposedPorts") or () for port in _tcp_ports(name))
        return cls(env, exposed, config.get("WorkingDir") or "/")


def _tcp_ports(exposed: str) -> Iterable[int]:
    """Those of `80`, `80/tcp`, `80-90/tcp`; of anything else none."""
    found = _EXPOSED.fullmatch(exposed)
    return range(int(found[1]), int(found[2] or found[1]) + 1) if found else ()


@dataclass(frozen=True, slots=True)
class Labels:
    """What hale wrote on a container of its own."""

    replica_id: str
    attempt: int
    ports: tuple[int, ...]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, labels: Mapping[str, str]) -> "Labels":
        return cls(
            labels[REPLICA],
            int(labels[ATTEMPT]),
            tuple(json.loads(labels.get(_PORTS, "[]"))),
            tuple(json.loads(labels.get(_NOTES, "[]"))),
        )


def unable(template: Template) -> str:
    """Why a container can't run the template; "" if it can."""
    if not template.image:
        return (
            "image: there is nothing to run in a container; name an image"
            " (with `--engine auto` a command without one is run as a process)"
        )
    for mount in template.mounts:
        for path in (mount.folder, mount.target):
            if ":" in path:
                return f"integrations: {path} can't be mounted; choose a path without a colon"
    return ""


def notes(template: Template, host: Host) -> Sequence[str]:
    """Limits of the machine type that the host does not have."""
    machine, name = template.machine, f"resources.machineType: {template.machine.name}"
    if machine.name and machine.cpus is None and machine.memory is None and not machine.gpus:
        return (f"{name} is not known, the replicas run without limits",)
    said = []
    if machine.cpus is not None and not _fits_cpus(template, host):
        said.append(f"{name} has {machine.cpus:g} CPUs, {_too_much(host.cpu_limit, str(host.cpus), 'CPUs')}")
    if machine.memory is not None and not _fits_memory(template, host):
        here = _too_much(host.memory_limit, _gib(host.memory), "memory")
        said.append(f"{name} has {_gib(machine.memory)} of memory, {here}")
    if machine.gpus and not host.gpus:
        gpus = "1 GPU" if machine.gpus == 1 else f"{machine.gpus} GPUs"
        said.append(f"{name} has {gpus}, the container engine here has none to give")
    return said


def _too_much(limited: bool, here: str, of: str) -> str:  # noqa: FBT001
    if not limited:
        return "which the container engine can't limit here"
    return f"this machine {here}: no limit on {of} is set"


def name(launch: Launch) -> str:
    """For people who look with the engine's own tools."""
    return f"hale-{launch.slug}-{launch.replica_id}-{launch.attempt}"


def body(launch: Launch, image: Image, host: Host, server: str, *, init: bool) -> dict[str, Any]:
    """What the engine is asked to create; `server` is the id of this installation."""
    template = launch.template
    env = environment(template, image)
    argv = command(template, image)
    published = _published(template) if host.rootless else ()
    created: dict[str, Any] = {
        "Image": template.pinned or template.image,
        "Env": [f"{key}={value}" for key, value in env.items()],
        "Labels": _labels(launch, image, server),
        # The image's own would run beside the deployment's, and nobody would heed it.
        "Healthcheck": {"Test": ["NONE"]},
        "ExposedPorts": {f"{port}/tcp": {} for port in (*template.ports, *published)},
        "HostConfig": _host_config(template, host, published, init=init),
    }
    if argv:
        # As Kubernetes' `command`: in place of the image's entrypoint and of its arguments.
        created |= {"Entrypoint": argv, "Cmd": []}
    return created


def command(template: Template, image: Image) -> list[str]:
    known = {**image.env, **environment(template, image)}
    return [expand(word, known) for word in template.command]


def environment(template: Template, image: Image) -> Mapping[str, str]:
    """The container's own variables: hale's, and the spec's, which win."""
    env = {"HOST": _EVERYWHERE}
    if template.ports:
        env["PORT"] = str(template.ports[0])
    env |= {f"PORT_{port}": str(port) for port in template.ports}
    env |= {_variable(mount): mount.target for mount in template.mounts}
    for key, value in template.env:
        # A variable may use those before it, hale's and the image's.
        env[key] = expand(value, {**image.env, **env})
    return env


def instance(inspected: Mapping[str, Any], host: Host, before: Instance | None = None) -> Instance:
    """The container as an Instance; `before` has what the engine forgets when a container ends."""
    labels = Labels.read(inspected["Config"]["Labels"])
    state = inspected["State"]
    ports = _ports(inspected, labels, host)
    address = _LOOPBACK if host.rootless else _address(inspected)
    if before is not None and (not address or len(ports) < len(before.ports)):
        address, ports = before.address, before.ports
    found = Instance(
        labels.replica_id,
        labels.attempt,
        instant(state["StartedAt"]),
        address or _LOOPBACK,
        ports,
        notes=labels.notes,
        container=str(inspected.get("Name") or "").removeprefix("/") or None,
    )
    if state["Running"] or state["Status"] in ("paused", "restarting"):
        return found
    code = exit_code(state["ExitCode"])
    killed = bool(state.get("OOMKilled")) and code not in (0, None)
    ended = max(instant(state["FinishedAt"]), found.started_at)
    return replace(found, exited_at=ended, exit_code=code, out_of_memory=killed)


def exit_code(said: int) -> int | None:
    """128 + n is the end by signal n; None for what no program ends with."""
    if said in _SIGNALLED:
        return 128 - said
    return said if 0 <= said < 255 else None


def instant(text: str) -> float:
    """Of an RFC 3339 time, which may have nine digits of a second."""
    whole = _FRACTION.sub("", text).replace("Z", "+00:00")
    fraction = _FRACTION.search(text)
    return datetime.fromisoformat(whole).timestamp() + (float(f"0.{fraction[1]}") if fraction else 0.0)


def _labels(launch: Launch, image: Image, server: str) -> Mapping[str, str]:
    template = launch.template
    said = []
    if image.exposed and template.ports and template.ports[0] not in image.exposed:
        exposed = ", ".join(map(str, sorted(image.exposed)))
        said.append(f"ports: {template.ports[0]} is not among those that the image exposes ({exposed})")
    return {
        SERVER: server,
        REPLICA: launch.replica_id,
        ATTEMPT: str(launch.attempt),
        _DEPLOYMENT: launch.deployment_id,
        _SLUG: launch.slug,
        _REVISION: str(launch.revision),
        _PORTS: json.dumps(template.ports),
        _NOTES: json.dumps(said),
    }


def _host_config(template: Template, host: Host, published: Iterable[int], *, init: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": NETWORK,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": _LOGS[host.podman],
        "Binds": [_bind(mount) for mount in template.mounts],
        "PortBindings": {f"{port}/tcp": [{"HostIp": _LOOPBACK, "HostPort": ""}] for port in published},
        **_limits(template, host),
    }
    if init:
        # The first process of a container ignores signals that it does not handle; an init passes them on.
        config["Init"] = True
    if not host.podman:
        # Podman gives what it can of them by itself: the first one since 4.7. Before that it takes no
        # host-gateway; since then it starts nothing that asks for one whose address it does not find.
        config["ExtraHosts"] = _HOSTS
    return config


def _limits(template: Template, host: Host) -> dict[str, Any]:
    machine = template.machine
    limits: dict[str, Any] = {}
    if machine.cpus is not None and _fits_cpus(template, host):
        limits["NanoCpus"] = round(machine.cpus * _BILLION)
    if machine.memory is not None and _fits_memory(template, host):
        limits["Memory"] = machine.memory
        if host.swap_limit:
            limits["MemorySwap"] = machine.memory  # none on top of it
    if machine.gpus and host.gpus:
        request: dict[str, Any] = {"Count": machine.gpus, "Capabilities": [["gpu"]]}
        if host.podman:
            devices = [f"nvidia.com/gpu={number}" for number in range(machine.gpus)]
            request = {"Driver": "cdi", "DeviceIDs": devices}
        limits["DeviceRequests"] = [request]
    return limits


def _fits_cpus(template: Template, host: Host) -> bool:
    return host.cpu_limit and (template.machine.cpus or 0) <= host.cpus


def _fits_memory(template: Template, host: Host) -> bool:
    return host.memory_limit and (template.machine.memory or 0) <= host.memory


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB".replace(".0 GiB", " GiB")


def _bind(mount: Mount) -> str:
    """`z`: SELinux lets several containers at it."""
    return f"{mount.folder}:{mount.target}:{'rw' if mount.writable else 'ro'},z"


def _variable(mount: Mount) -> str:
    return "HALE_INTEGRATION_" + re.sub(r"[^A-Z0-9]", "_", mount.name.upper())


def _published(template: Template) -> Sequence[int]:
    """Declared ports and those of checks."""
    actions = [probe.action for probe in template.probes.values()]
    asked = [action.port for action in actions if isinstance(action, HttpAction | TcpAction)]
    return list(dict.fromkeys([*template.ports, *(port for port in asked if port is not None)]))


def _address(inspected: Mapping[str, Any]) -> str:
    networks = inspected["NetworkSettings"].get("Networks") or {}
    return str((networks.get(NETWORK) or {}).get("IPAddress") or "")


def _ports(inspected: Mapping[str, Any], labels: Labels, host: Host) -> Mapping[int, int]:
    if not host.rootless:
        return {port: port for port in labels.ports}
    published = inspected["NetworkSettings"].get("Ports") or {}
    found = {int(name.partition("/")[0]): bound for name, bound in published.items() if bound}
    order = [port for port in labels.ports if port in found]
    order += [port for port in found if port not in labels.ports]
    return {port: int(found[port][0]["HostPort"]) for port in order}
