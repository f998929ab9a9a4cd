"""The Service, the route, and what protects it."""

from typing import Any

import pytest

from hale.spec.problems import SpecError
from tests.kubernetes.cluster import container, kinds, of_kind, said
from tests.kubernetes.cluster import given as rendered

GATEWAY = {"kind": "gateway", "gateway": {"name": "main"}}
PROTECTED = {"basicAuthKey": "secret:PASSWORD"}


def through(controller: str, **route: Any) -> dict[str, Any]:
    return {"domain": "example.org", "namespace": "team", "route": {"controller": controller, **route}}


def test_the_service_has_every_port_and_the_route_the_first() -> None:
    found = rendered({"resources": {"machineType": "C4", "ports": [8000, 9090]}})
    assert of_kind(found, "Service")["spec"]["ports"] == [
        {"name": "port-8000", "port": 8000, "targetPort": 8000, "protocol": "TCP"},
        {"name": "port-9090", "port": 9090, "targetPort": 9090, "protocol": "TCP"},
    ]
    (rule,) = of_kind(found, "Ingress")["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"] == {"service": {"name": "web", "port": {"number": 8000}}}
    assert [each["containerPort"] for each in container(found)["ports"]] == [8000, 9090]


def test_an_ingress_has_the_host_names_of_one_machine() -> None:
    settings = through("other", ingressClass="nginx", tlsSecret="tls", annotations={"a/b": "c"})
    found = of_kind(rendered({}, settings, id="3b093c22-ebe8-4316-a9ff-90cac17ef6cf"), "Ingress")
    hosts = ["web.example.org", "d3b093c22ebe84316a9ff90cac17ef6cf.example.org"]
    assert [rule["host"] for rule in found["spec"]["rules"]] == hosts
    assert found["spec"]["tls"] == [{"hosts": hosts, "secretName": "tls"}]
    assert found["spec"]["ingressClassName"] == "nginx"
    assert found["metadata"]["annotations"] == {"hale/name": "web", "a/b": "c"}


def test_without_a_class_the_cluster_chooses() -> None:
    assert "ingressClassName" not in of_kind(rendered({}), "Ingress")["spec"]


def test_a_route_attaches_to_the_gateway_of_the_settings() -> None:
    gateway = {"name": "main", "namespace": "gateways", "sectionName": "https"}
    found = of_kind(rendered({}, through("other", kind="gateway", gateway=gateway)), "HTTPRoute")
    assert found["spec"] == {
        "parentRefs": [gateway],
        "hostnames": ["web.example.org"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": "web", "port": 8000}],
            }
        ],
    }


def test_without_a_route_there_is_the_service_alone() -> None:
    assert kinds(rendered({}, {"route": {"kind": "none"}})) == ["Service", "Deployment"]


@pytest.mark.parametrize("name", ["a/b", "Web", "a b"])
def test_a_host_name_that_another_deployment_could_have_is_noted(name: str) -> None:
    assert "host name" in said(rendered({"name": name}))["name"]
    assert "name" not in said(rendered({"name": name}, id="1" * 32, slug="web"))


# --- passwords ------------------------------------------------------------------------------


def needed(found: Any) -> list[tuple[str, str, list[str]]]:
    return [(each.name, each.type, [key for key, _ in each.keys]) for each in found.secrets]


def test_ingress_nginx_is_told_by_annotations() -> None:
    found = rendered(PROTECTED, through("ingress-nginx"))
    annotations = of_kind(found, "Ingress")["metadata"]["annotations"]
    assert {key: value for key, value in annotations.items() if key != "hale/name"} == {
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": "web-basic-auth",
        "nginx.ingress.kubernetes.io/auth-realm": "hale",
    }
    assert needed(found) == [("web-basic-auth", "Opaque", ["auth"])]


def test_traefik_has_a_middleware_that_the_ingress_names_after_those_of_the_settings() -> None:
    key = "traefik.ingress.kubernetes.io/router.middlewares"
    found = rendered(PROTECTED, through("traefik", annotations={key: "team-limit@kubernetescrd"}))
    assert of_kind(found, "Middleware")["spec"] == {"basicAuth": {"secret": "web-basic-auth"}}
    annotations = of_kind(found, "Ingress")["metadata"]["annotations"]
    assert annotations[key] == "team-limit@kubernetescrd,team-web-basic-auth@kubernetescrd"
    assert needed(found) == [("web-basic-auth", "kubernetes.io/basic-auth", ["username", "password"])]


def test_traefik_has_a_middleware_that_the_route_names() -> None:
    found = rendered(PROTECTED, through("traefik", **GATEWAY))
    (rule,) = of_kind(found, "HTTPRoute")["spec"]["rules"]
    middleware = {"group": "traefik.io", "kind": "Middleware", "name": "web-basic-auth"}
    assert rule["filters"] == [{"type": "ExtensionRef", "extensionRef": middleware}]


def test_envoy_gateway_has_a_policy_for_the_route() -> None:
    found = rendered(PROTECTED, through("envoy-gateway", **GATEWAY))
    assert of_kind(found, "SecurityPolicy")["spec"] == {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"}],
        "basicAuth": {"users": {"name": "web-basic-auth"}},
    }
    assert needed(found) == [("web-basic-auth", "Opaque", [".htpasswd"])]


@pytest.mark.parametrize("route", [{}, GATEWAY, {"kind": "none"}])
def test_what_nothing_would_protect_is_refused(route: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as error:
        rendered(PROTECTED, through("other", **route))
    (problem,) = error.value.problems
    assert problem.path == "basicAuthKey"
    assert problem.hint.startswith("set route.controller")


def test_a_public_endpoint_has_nothing_of_it() -> None:
    found = rendered({}, through("traefik"))
    assert kinds(found) == ["Service", "Deployment", "Ingress"]
    assert of_kind(found, "Ingress")["metadata"]["annotations"] == {"hale/name": "web"}
    assert found.secrets == ()
    (rule,) = of_kind(rendered({}, through("traefik", **GATEWAY)), "HTTPRoute")["spec"]["rules"]
    assert "filters" not in rule


def test_a_password_that_stands_in_the_spec_is_not_printed() -> None:
    found = rendered({"basicAuthKey": "swordfish"}, through("traefik"))
    assert "swordfish" not in repr(found)
