"""What Prometheus is asked for how long requests take: the controllers' own metrics. Pure."""

from collections.abc import Sequence
from string import Template as Pattern

from hale.kubernetes.parts import Parts


def average(parts: Parts) -> str | None:
    """The average of five minutes in seconds; None for metrics that hale does not know.

    Without any request there is none, which asks for no replica.
    """
    settings, namespace, name = parts.settings, parts.names.namespace, parts.names.base
    if settings.prometheus and settings.prometheus.query is not None:
        known = {"namespace": namespace, "name": name, "port": str(parts.port)}
        return Pattern(settings.prometheus.query).safe_substitute(known)
    match (settings.route.controller, settings.route.kind):
        case ("ingress-nginx", "ingress"):
            labels = [
                f'{label}="{namespace}",ingress="{name}"' for label in ("namespace", "exported_namespace")
            ]
            return _average("nginx_ingress_controller_request_duration_seconds", labels)
        case ("traefik", "ingress"):
            service = f"{namespace}-{name}-{parts.port}@kubernetes"
            labels = [f'{label}="{service}"' for label in ("service", "exported_service")]
            return _average("traefik_service_request_duration_seconds", labels)
        case ("envoy-gateway", "gateway"):
            labels = [f'envoy_cluster_name="httproute/{namespace}/{name}/rule/0"']
            return _average("envoy_cluster_upstream_rq_time", labels, " / 1000")  # it counts milliseconds
    return None


def _average(metric: str, labels: Sequence[str], scale: str = "") -> str:
    total, count = (_rate(f"{metric}_{part}", labels) for part in ("sum", "count"))
    return f"{total} / {count}{scale} >= 0"  # a comparison drops what is no number: 0 / 0


def _rate(metric: str, labels: Sequence[str]) -> str:
    """Prometheus renames a label that clashes with one of its own, unless it is told to honour it."""
    rates = " or ".join(f"sum(rate({metric}{{{each}}}[5m]))" for each in labels)
    return f"({rates})" if len(labels) > 1 else rates
