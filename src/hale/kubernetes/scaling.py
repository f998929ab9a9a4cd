"""Autoscaling: a HorizontalPodAutoscaler, or KEDA's ScaledObject where Prometheus has to be asked. Pure."""

from collections.abc import Mapping

from hale.kubernetes.durations import average
from hale.kubernetes.names import Object
from hale.kubernetes.parts import Parts
from hale.kubernetes.settings import Machine
from hale.spec import compile as compiled
from hale.spec.problems import Loc
from hale.spec.schema import Autoscaling

DURATION = "requestDuration"

_AT: Loc = ("resources", "autoscaling")
_STABLE = 300
"""Seconds that fewer replicas have to have been enough: Gradient's five minutes."""
_NEEDS = {"cpu": "cpus", "memory": "memory"}


def autoscaler(parts: Parts) -> Object | None:
    """What changes the number of replicas; None where `replicas` is the last word."""
    autoscaling = parts.spec.resources.autoscaling
    if autoscaling is None or autoscaling.enabled is False:
        return None
    _check(parts, autoscaling)
    targets = _targets(autoscaling)
    if not targets:
        parts.findings.note((*_AT, "metrics"), "is empty: nothing scales the deployment, replicas stays")
        return None
    if not compiled.replicas(parts.spec):
        return None  # it would bring some back
    made = _scaled_object if DURATION in targets else _horizontal
    return made(parts, autoscaling.max_replicas, targets)


def _targets(autoscaling: Autoscaling) -> Mapping[str, float]:
    """One target for each metric: of several the lowest asks for the most replicas, which is what counts."""
    targets: dict[str, float] = {}
    for each in autoscaling.metrics:
        targets[each.metric] = min(each.value, targets.get(each.metric, each.value))
    return targets


def _check(parts: Parts, autoscaling: Autoscaling) -> None:
    findings, replicas = parts.findings, parts.spec.resources.replicas
    if replicas > autoscaling.max_replicas:
        message = f"must be at least resources.replicas, {replicas}, and is {autoscaling.max_replicas}"
        findings.refuse((*_AT, "maxReplicas"), message, "replicas is the least that scaling leaves")
    machine = parts.settings.machine(parts.spec.resources.machine_type)
    for index, each in enumerate(autoscaling.metrics):
        loc = (*_AT, "metrics", index)
        if each.metric == DURATION and parts.settings.prometheus is None:
            hint = "set prometheus.address in the settings, and have KEDA in the cluster"
            findings.refuse(loc, "can't be measured: the settings name no Prometheus", hint)
        elif each.metric != DURATION and not _has(machine, _NEEDS[each.metric]):
            message = f"is a share of what the machine type has, and the {_NEEDS[each.metric]} of"
            message = f"{message} {parts.spec.resources.machine_type} are not known"
            findings.refuse(loc, message, "add the type to machines in the settings")


def _has(machine: Machine | None, field: str) -> bool:
    return machine is not None and (machine.cpus if field == "cpus" else machine.memory) is not None


def _target(parts: Parts) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": parts.names.base}


def _behavior(targets: Mapping[str, float]) -> Object:
    """A duration is an average over five minutes: it takes as long to see what one replica more has done."""
    behavior: Object = {"scaleDown": {"stabilizationWindowSeconds": _STABLE}}
    if DURATION in targets:
        one = {"type": "Pods", "value": 1, "periodSeconds": _STABLE}
        behavior["scaleUp"] = {"stabilizationWindowSeconds": 0, "policies": [one]}
    return behavior


def _horizontal(parts: Parts, most: int, targets: Mapping[str, float]) -> Object:
    body = {
        "scaleTargetRef": _target(parts),
        "minReplicas": compiled.replicas(parts.spec),
        "maxReplicas": most,
        "metrics": [_resource(metric, int(value)) for metric, value in targets.items()],
        "behavior": _behavior(targets),
    }
    return parts.manifest("autoscaling/v2", "HorizontalPodAutoscaler", body)


def _resource(metric: str, per_cent: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": per_cent}
    return {"type": "Resource", "resource": {"name": metric, "target": target}}


def _scaled_object(parts: Parts, most: int, targets: Mapping[str, float]) -> Object:
    body = {
        "scaleTargetRef": _target(parts),
        "minReplicaCount": compiled.replicas(parts.spec),
        "maxReplicaCount": most,
        "pollingInterval": 30,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(targets)}},
        "triggers": [_trigger(parts, metric, value) for metric, value in targets.items()],
    }
    return parts.manifest("keda.sh/v1alpha1", "ScaledObject", body)


def _trigger(parts: Parts, metric: str, value: float) -> Object:
    if metric != DURATION:
        return {"type": metric, "metricType": "Utilization", "metadata": {"value": f"{value:g}"}}
    prometheus, route = parts.settings.prometheus, parts.settings.route
    query = average(parts)
    if prometheus and query is None:
        message = f"requestDuration has no query for {route.controller} as route kind {route.kind}"
        parts.findings.refuse((*_AT, "metrics"), message, "set prometheus.query in the settings")
    metadata = {
        "serverAddress": prometheus.address if prometheus else "",
        "query": query or "",
        "threshold": f"{value:.12g}",
    }
    # The value is that of all replicas already: it is not divided by their number.
    return {"type": "prometheus", "metricType": "Value", "metadata": metadata}
