"""The Deployment: its pods and their container. Pure."""

import math
from dataclasses import dataclass

from hale.core.deployment import Pull
from hale.kubernetes.findings import Needed
from hale.kubernetes.names import Object, digest, registry_secret
from hale.kubernetes.parts import POD, SECURITY, Parts
from hale.kubernetes.probes import probes
from hale.kubernetes.rolling import rolling
from hale.kubernetes.variables import command, referenced, variables
from hale.kubernetes.volumes import Mounted
from hale.spec import compile as compiled
from hale.spec.problems import shown
from hale.spec.schema import Settings as Own

CONTAINER = "app"
_LEAST_GRACE = 2
"""Seconds that the kubelet never goes below."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How long a pod has to end, in whole seconds: `sleep` until SIGTERM, `whole` until SIGKILL.

    A replica that a check ends has the sleep and the grace period alone, which is `killed`.
    """

    sleep: int
    whole: int
    killed: int

    @classmethod
    def of(cls, parts: Parts) -> "Ending":
        drain, grace = parts.template.drain, parts.template.grace
        sleep = min(parts.settings.pre_stop_seconds, math.ceil(drain))
        return cls(sleep, math.ceil(drain + grace), sleep + math.ceil(grace))


def deployment(parts: Parts, mounted: Mounted, *, scaled: bool) -> Object:
    """`scaled`: something else changes the number of replicas, which is then not said here."""
    body: Object = {} if scaled else {"replicas": compiled.replicas(parts.spec)}
    body |= {
        "revisionHistoryLimit": parts.settings.revision_history_limit,
        **rolling(parts),
        "selector": {"matchLabels": parts.names.selector()},
        "template": {"metadata": _pod_metadata(parts), "spec": _pod(parts, mounted)},
    }
    return parts.manifest("apps/v1", "Deployment", body)


def disruption(parts: Parts) -> Object:
    """One replica at a time may be taken away by hand; one that does not work is never in the way."""
    body = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": parts.names.selector()},
    }
    return parts.manifest("policy/v1", "PodDisruptionBudget", body)


def _pod_metadata(parts: Parts) -> Object:
    """With a digest of when the secrets in use were set: another value is another replica."""
    metadata: Object = {"labels": parts.names.pod()}
    if parts.known.secrets and (used := referenced(parts.spec)):
        versions = {name: parts.known.secrets.get(name) for name in used}
        metadata["annotations"] = {"hale/secrets": digest(versions)}
    return metadata


def _pod(parts: Parts, mounted: Mounted) -> Object:
    ending = Ending.of(parts)
    _note_ending(parts, ending)
    machine = parts.settings.machine(parts.spec.resources.machine_type)
    said = {
        **POD,
        "terminationGracePeriodSeconds": ending.whole,
        "imagePullSecrets": _pull_secrets(parts),
        "nodeSelector": dict(machine.node_selector) if machine else {},
        "initContainers": list(mounted.waits),
        "containers": [_container(parts, mounted, ending)],
        "volumes": list(mounted.volumes),
    }
    return {name: value for name, value in said.items() if value not in ([], {})}


def _pull_secrets(parts: Parts) -> list[Object]:
    connection = parts.spec.container_registry
    if not connection:
        return []
    name, what = registry_secret(connection), f"the login of the registry connection {shown(connection)}"
    parts.findings.need(Needed(name, "kubernetes.io/dockerconfigjson", ((".dockerconfigjson", what),)))
    return [{"name": name}]


def _container(parts: Parts, mounted: Mounted, ending: Ending) -> Object:
    found = variables(parts)
    said = {
        "name": CONTAINER,
        "image": parts.template.pinned or parts.template.image,
        "imagePullPolicy": _pull(parts),
        "command": command(parts, found),
        "ports": [
            {"name": f"port-{port}", "containerPort": port, "protocol": "TCP"}
            for port in parts.template.ports
        ],
        "env": list(found.env),
        "resources": _limits(parts),
        **probes(parts, ending.killed),
        "lifecycle": {"preStop": _pause(parts, ending.sleep)} if ending.sleep else {},
        "securityContext": dict(SECURITY),
        "volumeMounts": list(mounted.mounts),
    }
    return {name: value for name, value in said.items() if value not in ([], {})}


def _pull(parts: Parts) -> str:
    """A digest means the same for ever; of a tag only the registry knows what it stands for now.

    What is called localhost/… is in no registry, but on the nodes.
    """
    template = parts.template
    if template.pull is not Pull.REVISION:
        return "Always" if template.pull is Pull.ALWAYS else "Never"
    image = template.pinned or template.image or ""
    if "@" in image or image.startswith("localhost/"):
        return "IfNotPresent"
    message = (
        "is a tag: a cluster asks what it stands for at each start of a replica, not once for a revision"
    )
    parts.findings.note(("image",), message, "name a digest, NAME@sha256:…")
    return "Always"


def _limits(parts: Parts) -> Object:
    """A machine type is what a replica may use and what is kept for it."""
    name = parts.spec.resources.machine_type
    machine = parts.settings.machine(name)
    if machine is None:
        message = f"{shown(name)} is not known: replicas run without requests and limits"
        parts.findings.note(("resources", "machineType"), message, "add it to machines in the settings")
        return {}
    limits: Object = {}
    if machine.cpus is not None:
        limits["cpu"] = f"{machine.cpus:g}" if machine.cpus >= 1 else f"{math.ceil(machine.cpus * 1000)}m"
    if machine.memory is not None:
        limits["memory"] = machine.memory
    if machine.gpus:
        limits[machine.gpu_resource] = str(machine.gpus)
    return {"requests": dict(limits), "limits": limits} if limits else {}


def _pause(parts: Parts, seconds: int) -> Object:
    """Until every node knows that the endpoint is gone, new requests still come: SIGTERM waits for that."""
    if parts.settings.native_sleep:
        return {"sleep": {"seconds": seconds}}
    message = "needs a program sleep in it: it runs before SIGTERM, as this cluster has no sleep of its own"
    parts.findings.note(("image",), message)
    return {"exec": {"command": ["sleep", str(seconds)]}}


def _note_ending(parts: Parts, ending: Ending) -> None:
    own, findings = parts.spec.hale or Own(), parts.findings
    if own.drain_seconds is not None:
        loc = ("hale", "drainSeconds")
        if findings.whole(loc, own.drain_seconds) > ending.sleep:
            message = f"SIGTERM comes {ending.sleep} s after a replica leaves traffic; what is under way then"
            message = f"{message} has {ending.whole - ending.sleep} s, if the app finishes it on SIGTERM"
            findings.note(loc, message, "preStopSeconds in the settings is the longest wait")
    if own.grace_period_seconds is not None:
        loc = ("hale", "gracePeriodSeconds")
        if findings.whole(loc, own.grace_period_seconds) < _LEAST_GRACE:
            findings.note(loc, f"a cluster never gives less than {_LEAST_GRACE} s")
