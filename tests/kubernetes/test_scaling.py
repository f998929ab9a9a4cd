"""Autoscaling."""

from typing import Any

import pytest

from hale.spec.problems import SpecError
from tests.kubernetes.cluster import given as rendered
from tests.kubernetes.cluster import kinds, of_kind, said

PROMETHEUS = {"prometheus": {"address": "http://prometheus:9090"}, "route": {"controller": "ingress-nginx"}}


def scaled(*metrics: tuple[str, float], most: int = 5, **more: Any) -> dict[str, Any]:
    listed = [{"metric": metric, "summary": "average", "value": value} for metric, value in metrics]
    autoscaling = {"maxReplicas": most, "metrics": listed, **more.pop("autoscaling", {})}
    return {"resources": {"machineType": "C4", "ports": [8000], "autoscaling": autoscaling, **more}}


def why(config: dict[str, Any], settings: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(SpecError) as error:
        rendered(config, settings)
    return [problem.path for problem in error.value.problems]


def test_cpu_and_memory_are_kubernetes_own() -> None:
    found = rendered(scaled(("cpu", 60), ("memory", 80), replicas=2))
    assert of_kind(found, "HorizontalPodAutoscaler")["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 2,
        "maxReplicas": 5,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": value}},
            }
            for name, value in (("cpu", 60), ("memory", 80))
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    assert "replicas" not in of_kind(found, "Deployment")["spec"]
    assert "PodDisruptionBudget" in kinds(found)


@pytest.mark.parametrize("values", [(60, 40), (40, 60)])
def test_of_two_targets_for_one_metric_the_lower_asks_for_more(values: tuple[int, int]) -> None:
    found = rendered(scaled(("cpu", values[0]), ("memory", 80), ("cpu", values[1])))
    metrics = of_kind(found, "HorizontalPodAutoscaler")["spec"]["metrics"]
    targets = [each["resource"]["target"]["averageUtilization"] for each in metrics]
    assert targets == [40, 80]


@pytest.mark.parametrize(
    "config",
    [
        scaled(("cpu", 60), autoscaling={"enabled": False}),
        scaled(("cpu", 60), replicas=0),
        scaled(("cpu", 60)) | {"enabled": False},
        scaled(("requestDuration", 1)) | {"enabled": False},
    ],
)
def test_nothing_scales_what_is_switched_off(config: dict[str, Any]) -> None:
    found = rendered(config, PROMETHEUS)
    assert {"HorizontalPodAutoscaler", "ScaledObject"} & set(kinds(found)) == set()
    assert "replicas" in of_kind(found, "Deployment")["spec"]


def test_no_metric_is_no_autoscaler_and_noted() -> None:
    found = rendered(scaled())
    assert "HorizontalPodAutoscaler" not in kinds(found)
    assert list(said(found)) == ["resources.autoscaling.metrics"]


def test_the_least_is_not_more_than_the_most() -> None:
    assert why(scaled(("cpu", 50), most=2, replicas=3)) == ["resources.autoscaling.maxReplicas"]


@pytest.mark.parametrize(
    ("machine", "refused"),
    [
        ({"cpus": 1}, ["resources.autoscaling.metrics[1]"]),
        ({"memory": "1Gi"}, ["resources.autoscaling.metrics[0]"]),
        (None, ["resources.autoscaling.metrics[0]", "resources.autoscaling.metrics[1]"]),
    ],
)
def test_a_share_of_what_is_not_known_is_refused(machine: Any, refused: list[str]) -> None:
    settings = {"machines": {"own": machine}} if machine else {}
    config = scaled(("cpu", 50), ("memory", 50), machineType="own")
    assert why(config, settings) == refused


# --- requestDuration ------------------------------------------------------------------------


def trigger(found: Any, kind: str) -> Any:
    (one,) = (each for each in of_kind(found, "ScaledObject")["spec"]["triggers"] if each["type"] == kind)
    return one


def test_a_duration_is_refused_without_prometheus() -> None:
    assert why(scaled(("cpu", 50), ("requestDuration", 0.5))) == ["resources.autoscaling.metrics[1]"]


def test_a_duration_makes_keda_scale_by_every_metric() -> None:
    found = rendered(scaled(("requestDuration", 0.15), ("cpu", 75), replicas=2), PROMETHEUS)
    assert "HorizontalPodAutoscaler" not in kinds(found)
    spec = of_kind(found, "ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 5)
    assert trigger(found, "cpu") == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "75"}}
    asked = trigger(found, "prometheus")
    assert asked["metricType"] == "Value"
    assert asked["metadata"]["threshold"] == "0.15"
    assert asked["metadata"]["serverAddress"] == "http://prometheus:9090"


def test_a_duration_adds_one_replica_in_the_time_that_it_takes_to_see_it() -> None:
    found = rendered(scaled(("requestDuration", 1)), PROMETHEUS)
    behavior = of_kind(found, "ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]
    assert behavior["scaleDown"] == {"stabilizationWindowSeconds": 300}


@pytest.mark.parametrize(
    ("route", "parts"),
    [
        (
            {"controller": "ingress-nginx"},
            ["nginx_ingress_controller_request_duration_seconds", 'namespace="team",ingress="web"'],
        ),
        (
            {"controller": "traefik"},
            ["traefik_service_request_duration_seconds", 'service="team-web-8000@kubernetes"'],
        ),
        (
            {"controller": "envoy-gateway", "kind": "gateway", "gateway": {"name": "main"}},
            ["envoy_cluster_upstream_rq_time", 'envoy_cluster_name="httproute/team/web/rule/0"', "/ 1000"],
        ),
    ],
)
def test_the_controllers_own_metrics_are_asked(route: dict[str, Any], parts: list[str]) -> None:
    settings = PROMETHEUS | {"route": route, "namespace": "team"}
    query = trigger(rendered(scaled(("requestDuration", 1)), settings), "prometheus")["metadata"]["query"]
    assert all(part in query for part in parts)
    assert f"{parts[0]}_sum" in query
    assert f"{parts[0]}_count" in query
    assert query.count("(") == query.count(")")


@pytest.mark.parametrize(
    "route", [{}, {"controller": "traefik", "kind": "gateway", "gateway": {"name": "main"}}, {"kind": "none"}]
)
def test_metrics_that_hale_does_not_know_need_a_query(route: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"prometheus": {"address": "http://prometheus:9090"}, "route": route}
    assert why(scaled(("requestDuration", 1)), settings) == ["resources.autoscaling.metrics"]
    settings["prometheus"] |= {"query": 'avg(took{app=~"^$namespace/$name:$port$", x="$other"})'}
    found = rendered(scaled(("requestDuration", 1)), settings)
    assert trigger(found, "prometheus")["metadata"]["query"] == (
        'avg(took{app=~"^default/web:8000$", x="$other"})'
    )
