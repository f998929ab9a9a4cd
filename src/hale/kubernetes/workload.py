"""The Deployment: pods, their container, and how a revision takes over. Pure."""

import math
from dataclasses import dataclass

from hale.core.deployment import Pull, Strategy, Template
from hale.kubernetes.findings import Findings, Needed
from hale.kubernetes.names import SECURITY, Known, Names, Object, digest, registry_secret
from hale.kubernetes.probes import probes
from hale.kubernetes.settings import Settings
from hale.kubernetes.variables import command, referenced, variables
from hale.kubernetes.volumes import Mounted
from hale.spec import compile as compiled
from hale.spec.problems import shown
from hale.spec.schema import Settings as Own
from hale.spec.schema import Spec

CONTAINER = "app"
_LEAST_GRACE = 2
"""Seconds that the kubelet never goes below."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How long a pod has to end, in whole seconds: `sleep` until SIGTERM, `whole` until SIGKILL.

    A replica that a check ends has `sleep` and the grace period alone.
    """

    sleep: int
    grace: int
    whole: int

    @classmethod
    def of(cls, template: Template, settings: Settings) -> "Ending":
        drain, grace = math.ceil(template.drain), math.ceil(template.grace)
        return cls(min(settings.pre_stop_seconds, drain), grace, math.ceil(template.drain + template.grace))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a Deployment is made of."""

    spec: Spec
    template: Template
    settings: Settings
    names: Names
    mounted: Mounted
    known: Known


def deployment(parts: Parts, findings: Findings, *, scaled: bool) -> Object:
    """`scaled`: something else changes the number of replicas, which is then not said here."""
    names, wanted = parts.names, compiled.replicas(parts.spec)
    body: Object = {} if scaled else {"replicas": wanted}
    body |= {
        "revisionHistoryLimit": parts.settings.revision_history_limit,
        "progressDeadlineSeconds": _deadline(parts.spec, findings),
        "selector": {"matchLabels": names.selector()},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(parts.spec, wanted, findings)},
        "template": {"metadata": _pod_metadata(parts), "spec": _pod(parts, findings)},
    }
    metadata = names.metadata(names.base)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": body}


def disruption(names: Names) -> Object:
    """One replica at a time may be taken away by hand; one that does not work is never in the way."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(names.base),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector()},
        },
    }


def _pod_metadata(parts: Parts) -> Object:
    """With a digest of when the secrets in use were set: another value is another replica."""
    metadata: Object = {"labels": parts.names.pod()}
    if parts.known.secrets and (used := referenced(parts.spec)):
        versions = {name: parts.known.secrets.get(name) for name in used}
        metadata["annotations"] = {"hale/secrets": digest(versions)}
    return metadata


def _pod(parts: Parts, findings: Findings) -> Object:
    spec, mounted = parts.spec, parts.mounted
    ending = Ending.of(parts.template, parts.settings)
    _note_ending(spec, ending, findings)
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a service called PORT would otherwise be in the environment
        "terminationGracePeriodSeconds": ending.whole,
    }
    if spec.container_registry:
        name = registry_secret(spec.container_registry)
        pod["imagePullSecrets"] = [{"name": name}]
        what = f"the login of the registry connection {shown(spec.container_registry)}"
        findings.need(Needed(name, "kubernetes.io/dockerconfigjson", ((".dockerconfigjson", what),)))
    machine = parts.settings.machine(spec.resources.machine_type)
    if machine and machine.node_selector:
        pod["nodeSelector"] = dict(machine.node_selector)
    if mounted.waits:
        pod["initContainers"] = list(mounted.waits)
    pod["containers"] = [_container(parts, ending, findings)]
    if mounted.volumes:
        pod["volumes"] = list(mounted.volumes)
    return pod


def _container(parts: Parts, ending: Ending, findings: Findings) -> Object:
    template, settings, mounted = parts.template, parts.settings, parts.mounted
    found = variables(parts.spec, template.sources, parts.names.secrets, findings)
    container: Object = {
        "name": CONTAINER,
        "image": template.pinned or template.image,
        "imagePullPolicy": _pull(template, findings),
    }
    if template.command:
        container["command"] = command(template.command, found.values, findings)
    container |= {
        "ports": [
            {"name": f"port-{port}", "containerPort": port, "protocol": "TCP"} for port in template.ports
        ],
        "env": list(found.env),
    }
    if limits := _limits(template, settings, findings):
        container["resources"] = limits
    container |= probes(template, ending.sleep + ending.grace, findings)
    if ending.sleep:
        container["lifecycle"] = {"preStop": _pause(ending.sleep, settings, findings)}
    container["securityContext"] = dict(SECURITY)
    if mounted.mounts:
        container["volumeMounts"] = list(mounted.mounts)
    return container


def _pull(template: Template, findings: Findings) -> str:
    """A digest means the same for ever; of a tag only the registry knows what it stands for now.

    What is called localhost/… is in no registry, but on the nodes.
    """
    if template.pull is not Pull.REVISION:
        return "Always" if template.pull is Pull.ALWAYS else "Never"
    image = template.pinned or template.image or ""
    if "@" in image or image.startswith("localhost/"):
        return "IfNotPresent"
    message = (
        "is a tag: a cluster looks what it stands for at each start of a replica, not once for a revision"
    )
    findings.note(("image",), message, "name a digest, NAME@sha256:…")
    return "Always"


def _limits(template: Template, settings: Settings, findings: Findings) -> Object:
    """A machine type is what a replica may use and what is kept for it."""
    name = template.machine.name
    machine = settings.machine(name)
    if machine is None:
        message = f"{shown(name)} is not known: replicas run without requests and limits"
        findings.note(("resources", "machineType"), message, "add it to machines in the settings")
        return {}
    sizes: Object = {}
    if machine.cpus is not None:
        sizes["cpu"] = f"{machine.cpus:g}" if machine.cpus >= 1 else f"{math.ceil(machine.cpus * 1000)}m"
    if machine.memory is not None:
        sizes["memory"] = machine.memory
    gpus = {machine.gpu_resource: str(machine.gpus)} if machine.gpus else {}
    limits = sizes | gpus
    return {"requests": dict(limits), "limits": limits} if limits else {}


def _pause(seconds: int, settings: Settings, findings: Findings) -> Object:
    """Until every node knows that the endpoint is gone, new requests still come: SIGTERM waits for that."""
    if settings.native_sleep:
        return {"sleep": {"seconds": seconds}}
    message = "needs a program sleep in it: it runs before SIGTERM, as this cluster has no sleep of its own"
    findings.note(("image",), message)
    return {"exec": {"command": ["sleep", str(seconds)]}}


def _note_ending(spec: Spec, ending: Ending, findings: Findings) -> None:
    own = spec.hale or Own()
    if own.drain_seconds is not None:
        drain = findings.whole(("hale", "drainSeconds"), own.drain_seconds)
        if drain > ending.sleep:
            message = f"SIGTERM comes {ending.sleep} s after a replica leaves traffic; what is under way then"
            message = f"{message} has {ending.whole - ending.sleep} s, if the app finishes it on SIGTERM"
            findings.note(
                ("hale", "drainSeconds"), message, "preStopSeconds in the settings is the longest wait"
            )
    if own.grace_period_seconds is not None:
        grace = findings.whole(("hale", "gracePeriodSeconds"), own.grace_period_seconds)
        if grace < _LEAST_GRACE:
            message = f"a cluster never gives less than {_LEAST_GRACE} s"
            findings.note(("hale", "gracePeriodSeconds"), message)


def _deadline(spec: Spec, findings: Findings) -> int:
    loc = ("hale", "strategy", "progressDeadlineSeconds")
    return findings.whole(loc, compiled.strategy(spec).progress_deadline)


def _rolling(spec: Spec, wanted: int, findings: Findings) -> Object:
    """As it is written, except where a cluster would take away more than hale does.

    hale never takes the last ready replica, and adds one where no other step is left; a cluster takes one
    away first.
    """
    own = (spec.hale or Own()).strategy
    strategy = compiled.strategy(spec)
    surge: int | str = _written(own.max_surge if own else None, "25%")
    unavailable: int | str = _written(own.max_unavailable if own else None, "25%")
    if wanted and strategy.max_unavailable.down(wanted) >= wanted:
        unavailable = wanted - 1
        message = f"becomes {unavailable}: one of {wanted} replicas always stays"
        findings.note(("hale", "strategy", "maxUnavailable"), message)
    if wanted and _stands_still(strategy, wanted):
        surge = 1
        message = "becomes 1: with no replica more and none less no revision could take over"
        findings.note(("hale", "strategy", "maxSurge"), message)
    return {"maxSurge": surge, "maxUnavailable": unavailable}


def _written(share: int | str | None, default: str) -> int | str:
    return default if share is None else share


def _stands_still(strategy: Strategy, wanted: int) -> bool:
    return not strategy.max_surge.up(wanted) and not min(strategy.max_unavailable.down(wanted), wanted - 1)
