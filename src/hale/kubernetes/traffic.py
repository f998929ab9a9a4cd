"""How requests come in: a Service, a route, a password. Pure."""

from hale.core.deployment import Template
from hale.core.secret import reference
from hale.kubernetes.findings import Findings, Needed
from hale.kubernetes.names import Names, Object
from hale.kubernetes.settings import Route, Settings
from hale.spec.schema import Spec

USER = "paperspace"
"""The user of protected endpoints, always."""

_HASHED = {"ingress-nginx": "auth", "envoy-gateway": ".htpasswd"}
"""The key of a Secret that a controller reads lines of htpasswd from."""


def service(template: Template, names: Names) -> Object:
    """All declared ports, under their own numbers."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(names.base),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(),
            "ports": [
                {"name": f"port-{port}", "port": port, "targetPort": port, "protocol": "TCP"}
                for port in template.ports
            ],
        },
    }


def route(
    spec: Spec, template: Template, settings: Settings, names: Names, findings: Findings
) -> list[Object]:
    """The first port under the endpoint's host names, and what protects it."""
    protected = spec.basic_auth_key is not None and _protect(spec, settings.route, names, findings)
    if settings.route.kind == "none":
        return []
    _note_host(spec, settings, names, findings)
    made = _ingress if settings.route.kind == "ingress" else _http_route
    return [
        *_policies(settings.route, names, protected=protected),
        made(template.ports[0], settings, names, protected=protected),
    ]


def _protect(spec: Spec, route: Route, names: Names, findings: Findings) -> bool:
    """Whether it can be; the Secret is needed, and refused is what nothing would protect."""
    if route.controller == "other":
        message = f"can't be enforced here: nothing is known of what serves route kind {route.kind}"
        hint = "set route.controller in the settings to ingress-nginx, traefik or envoy-gateway"
        findings.refuse(("basicAuthKey",), message, hint)
        return False
    name = reference(spec.basic_auth_key or "")
    what = "the password of the spec" if name is None else f"the secret {name}"
    if route.controller == "traefik":
        keys = (("username", USER), ("password", what))
        findings.need(Needed(names.password, "kubernetes.io/basic-auth", keys))
        return True
    kind = "SHA (htpasswd -s)" if route.controller == "envoy-gateway" else "bcrypt (htpasswd -B)"
    line = f"a line of htpasswd for the user {USER} and {what}, by {kind}"
    findings.need(Needed(names.password, "Opaque", ((_HASHED[route.controller], line),)))
    return True


def _policies(route: Route, names: Names, *, protected: bool) -> list[Object]:
    if not protected or route.controller == "ingress-nginx":
        return []
    metadata = names.metadata(names.password)
    if route.controller == "traefik":
        return [
            {
                "apiVersion": "traefik.io/v1alpha1",
                "kind": "Middleware",
                "metadata": metadata,
                "spec": {"basicAuth": {"secret": names.password}},
            }
        ]
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": names.base}
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "SecurityPolicy",
            "metadata": metadata,
            "spec": {"targetRefs": [target], "basicAuth": {"users": {"name": names.password}}},
        }
    ]


def _ingress(port: int, settings: Settings, names: Names, *, protected: bool) -> Object:
    route, hosts = settings.route, names.hosts(settings.domain)
    backend = {"service": {"name": names.base, "port": {"number": port}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec: Object = {"rules": [{"host": host, "http": {"paths": paths}} for host in hosts]}
    if route.ingress_class is not None:
        spec = {"ingressClassName": route.ingress_class, **spec}
    if route.tls_secret is not None:
        spec["tls"] = [{"hosts": hosts, "secretName": route.tls_secret}]
    annotations = dict(route.annotations)
    if protected:
        annotations |= _annotations(route, names)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": names.metadata(names.base, annotations),
        "spec": spec,
    }


def _annotations(route: Route, names: Names) -> dict[str, str]:
    if route.controller == "traefik":
        key = "traefik.ingress.kubernetes.io/router.middlewares"
        ours = f"{names.namespace}-{names.password}@kubernetescrd"
        before = route.annotations.get(key)
        return {key: f"{before},{ours}" if before else ours}
    prefix = "nginx.ingress.kubernetes.io"
    return {
        f"{prefix}/auth-type": "basic",
        f"{prefix}/auth-secret": names.password,
        f"{prefix}/auth-realm": "hale",
    }


def _http_route(port: int, settings: Settings, names: Names, *, protected: bool) -> Object:
    route = settings.route
    parent = route.gateway.model_dump(by_alias=True, exclude_none=True) if route.gateway else {}
    rule: Object = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}
    if protected and route.controller == "traefik":
        middleware = {"group": "traefik.io", "kind": "Middleware", "name": names.password}
        rule["filters"] = [{"type": "ExtensionRef", "extensionRef": middleware}]
    rule["backendRefs"] = [{"name": names.base, "port": port}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": names.metadata(names.base, route.annotations),
        "spec": {
            "parentRefs": [parent],
            "hostnames": names.hosts(settings.domain),
            "rules": [rule],
        },
    }


def _note_host(spec: Spec, settings: Settings, names: Names, findings: Findings) -> None:
    """Names of objects differ for all deployments; host names are made as on one machine."""
    if spec.name != names.slug and names.id is None:
        host = names.hosts(settings.domain)[0]
        message = f"makes the host name {host}, as any name would that differs only in its other characters"
        findings.note(("name",), message)
