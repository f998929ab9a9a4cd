"""Autoscaling: a HorizontalPodAutoscaler, or KEDA's ScaledObject where Prometheus has to be asked. Pure."""

from collections.abc import Mapping
from string import Template as Pattern

from hale.core.deployment import Template
from hale.kubernetes.findings import Findings
from hale.kubernetes.names import Names, Object
from hale.kubernetes.settings import Machine, Settings
from hale.spec import compile as compiled
from hale.spec.problems import Loc
from hale.spec.schema import Autoscaling, Spec

DURATION = "requestDuration"

_AT: Loc = ("resources", "autoscaling")
_STABLE = 300
"""Seconds that fewer replicas have to have been enough: Gradient's five minutes."""
_NEEDS = {"cpu": "cpus", "memory": "memory"}


def autoscaler(
    spec: Spec, template: Template, settings: Settings, names: Names, findings: Findings
) -> Object | None:
    """What changes the number of replicas; None where `replicas` is the last word."""
    autoscaling = spec.resources.autoscaling
    if autoscaling is None or autoscaling.enabled is False:
        return None
    targets = _targets(autoscaling)
    _check(spec, autoscaling, targets, settings, findings)
    if not targets:
        findings.note((*_AT, "metrics"), "is empty: nothing scales the deployment, replicas stays")
        return None
    least = compiled.replicas(spec)
    if not least:
        return None
    if DURATION in targets:
        return _scaled_object(least, autoscaling, targets, template, settings, names, findings)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": names.metadata(names.base),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.base},
            "minReplicas": least,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [_resource(metric, int(value)) for metric, value in targets.items()],
            "behavior": _behavior(targets),
        },
    }


def _targets(autoscaling: Autoscaling) -> Mapping[str, float]:
    """One target for each metric: of several the lowest asks for the most replicas, which is what counts."""
    targets: dict[str, float] = {}
    for each in autoscaling.metrics:
        targets[each.metric] = min(each.value, targets.get(each.metric, each.value))
    return targets


def _check(
    spec: Spec,
    autoscaling: Autoscaling,
    targets: Mapping[str, float],
    settings: Settings,
    findings: Findings,
) -> None:
    replicas = spec.resources.replicas
    if replicas > autoscaling.max_replicas:
        message = f"must be at least resources.replicas, {replicas}, and is {autoscaling.max_replicas}"
        findings.refuse((*_AT, "maxReplicas"), message, "replicas is the least that scaling leaves")
    machine = settings.machine(spec.resources.machine_type)
    for index, each in enumerate(autoscaling.metrics):
        loc = (*_AT, "metrics", index)
        if each.metric == DURATION and settings.prometheus is None:
            message = "can't be measured: the settings name no Prometheus"
            findings.refuse(
                loc, message, "set prometheus.address in the settings, and have KEDA in the cluster"
            )
        elif each.metric != DURATION and not _has(machine, _NEEDS[each.metric]):
            message = f"is a share of what the machine type has, and the {_NEEDS[each.metric]} of"
            message = f"{message} {spec.resources.machine_type} are not known"
            findings.refuse(loc, message, "add the type to machines in the settings")


def _has(machine: Machine | None, field: str) -> bool:
    return machine is not None and (machine.cpus if field == "cpus" else machine.memory) is not None


def _resource(metric: str, per_cent: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": per_cent}
    return {"type": "Resource", "resource": {"name": metric, "target": target}}


def _behavior(targets: Mapping[str, float]) -> Object:
    """A duration is an average over five minutes: it takes as long to see what one replica more has done."""
    behavior: Object = {"scaleDown": {"stabilizationWindowSeconds": _STABLE}}
    if DURATION in targets:
        one = {"type": "Pods", "value": 1, "periodSeconds": _STABLE}
        behavior["scaleUp"] = {"stabilizationWindowSeconds": 0, "policies": [one]}
    return behavior


def _scaled_object(
    least: int,
    autoscaling: Autoscaling,
    targets: Mapping[str, float],
    template: Template,
    settings: Settings,
    names: Names,
    findings: Findings,
) -> Object:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": names.metadata(names.base),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.base},
            "minReplicaCount": least,
            "maxReplicaCount": autoscaling.max_replicas,
            "pollingInterval": 30,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(targets)}},
            "triggers": [
                _trigger(metric, value, template, settings, names, findings)
                for metric, value in targets.items()
            ],
        },
    }


def _trigger(
    metric: str, value: float, template: Template, settings: Settings, names: Names, findings: Findings
) -> Object:
    if metric != DURATION:
        return {"type": metric, "metricType": "Utilization", "metadata": {"value": f"{value:g}"}}
    query = _query(template.ports[0], settings, names)
    if query is None and settings.prometheus is not None:
        message = f"has no query for {settings.route.controller} as route kind {settings.route.kind}"
        findings.refuse(
            (*_AT, "metrics"), f"requestDuration {message}", "set prometheus.query in the settings"
        )
    metadata = {
        "serverAddress": settings.prometheus.address if settings.prometheus else "",
        "query": query or "",
        "threshold": f"{value:.12g}",
    }
    # The value is that of all replicas already: it is not divided by their number.
    return {"type": "prometheus", "metricType": "Value", "metadata": metadata}


def _query(port: int, settings: Settings, names: Names) -> str | None:
    """The average of five minutes in seconds; without any request nothing, which asks for no replica."""
    given = settings.prometheus.query if settings.prometheus else None
    if given is not None:
        known = {"namespace": names.namespace, "name": names.base, "port": str(port)}
        return Pattern(given).safe_substitute(known)
    route = settings.route
    namespace, name = names.namespace, names.base
    labels: tuple[str, ...]
    match (route.controller, route.kind):
        case ("ingress-nginx", "ingress"):
            metric = "nginx_ingress_controller_request_duration_seconds"
            labels = (
                f'namespace="{namespace}",ingress="{name}"',
                f'exported_namespace="{namespace}",ingress="{name}"',
            )
        case ("traefik", "ingress"):
            metric, value = (
                "traefik_service_request_duration_seconds",
                f"{namespace}-{name}-{port}@kubernetes",
            )
            labels = (f'service="{value}"', f'exported_service="{value}"')
        case ("envoy-gateway", "gateway"):
            metric = "envoy_cluster_upstream_rq_time"
            labels = (f'envoy_cluster_name="httproute/{namespace}/{name}/rule/0"',)
        case _:
            return None
    scale = " / 1000" if route.controller == "envoy-gateway" else ""  # it counts milliseconds
    total, count = (_rate(f"{metric}_{part}", labels) for part in ("sum", "count"))
    return f"{total} / {count}{scale} >= 0"  # a comparison drops what is no number: 0 / 0


def _rate(metric: str, labels: tuple[str, ...]) -> str:
    """Prometheus renames a label that clashes with one of its own, unless it is told to honour it."""
    rates = " or ".join(f"sum(rate({metric}{{{each}}}[5m]))" for each in labels)
    return f"({rates})" if len(labels) > 1 else rates
