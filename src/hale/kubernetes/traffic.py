"""How requests come in: a Service, a route, a password. Pure."""

from hale.core.secret import reference
from hale.kubernetes.findings import Needed
from hale.kubernetes.names import Object
from hale.kubernetes.parts import Parts

USER = "paperspace"
"""The user of protected endpoints, always."""

_HASHED = {"ingress-nginx": "auth", "envoy-gateway": ".htpasswd"}
"""The key of a Secret that a controller reads lines of htpasswd from."""


def service(parts: Parts) -> Object:
    """All declared ports, under their own numbers."""
    ports = [
        {"name": f"port-{port}", "port": port, "targetPort": port, "protocol": "TCP"}
        for port in parts.template.ports
    ]
    body = {"type": "ClusterIP", "selector": parts.names.selector(), "ports": ports}
    return parts.manifest("v1", "Service", body)


def route(parts: Parts) -> list[Object]:
    """The first port under the endpoint's host names, and what protects it."""
    protected = parts.spec.basic_auth_key is not None and _protect(parts)
    kind = parts.settings.route.kind
    if kind == "none":
        return []
    _note_host(parts)
    made = _ingress if kind == "ingress" else _http_route
    return [*(_policies(parts) if protected else ()), made(parts, protected=protected)]


def _protect(parts: Parts) -> bool:
    """Whether it can be; the Secret is needed, and refused is what nothing would protect."""
    controller, name = parts.settings.route.controller, parts.names.password
    if controller == "other":
        kind = parts.settings.route.kind
        message = f"can't be enforced here: nothing is known of what serves route kind {kind}"
        hint = "set route.controller in the settings to ingress-nginx, traefik or envoy-gateway"
        parts.findings.refuse(("basicAuthKey",), message, hint)
        return False
    secret = reference(parts.spec.basic_auth_key or "")
    what = "the password of the spec" if secret is None else f"the secret {secret}"
    if controller == "traefik":
        needed = Needed(name, "kubernetes.io/basic-auth", (("username", USER), ("password", what)))
    else:
        digest = "SHA (htpasswd -s)" if controller == "envoy-gateway" else "bcrypt (htpasswd -B)"
        line = f"a line of htpasswd for the user {USER} and {what}, by {digest}"
        needed = Needed(name, "Opaque", ((_HASHED[controller], line),))
    parts.findings.need(needed)
    return True


def _policies(parts: Parts) -> list[Object]:
    """What the controller knows of passwords beside the route."""
    name = parts.names.password
    match parts.settings.route.controller:
        case "traefik":
            body: Object = {"basicAuth": {"secret": name}}
            return [parts.manifest("traefik.io/v1alpha1", "Middleware", body, name=name)]
        case "envoy-gateway":
            target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": parts.names.base}
            body = {"targetRefs": [target], "basicAuth": {"users": {"name": name}}}
            return [parts.manifest("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy", body, name=name)]
    return []


def _ingress(parts: Parts, *, protected: bool) -> Object:
    route, hosts = parts.settings.route, parts.names.hosts(parts.settings.domain)
    backend = {"service": {"name": parts.names.base, "port": {"number": parts.port}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    body: Object = {"ingressClassName": route.ingress_class} if route.ingress_class else {}
    body["rules"] = [{"host": host, "http": {"paths": paths}} for host in hosts]
    if route.tls_secret is not None:
        body["tls"] = [{"hosts": hosts, "secretName": route.tls_secret}]
    annotations = route.annotations | (_protection(parts) if protected else {})
    return parts.manifest("networking.k8s.io/v1", "Ingress", body, annotations=annotations)


def _protection(parts: Parts) -> dict[str, str]:
    """Annotations of an Ingress."""
    route, names = parts.settings.route, parts.names
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


def _http_route(parts: Parts, *, protected: bool) -> Object:
    route, names = parts.settings.route, parts.names
    rule: Object = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}
    if protected and route.controller == "traefik":
        middleware = {"group": "traefik.io", "kind": "Middleware", "name": names.password}
        rule["filters"] = [{"type": "ExtensionRef", "extensionRef": middleware}]
    rule["backendRefs"] = [{"name": names.base, "port": parts.port}]
    parent = route.gateway.model_dump(by_alias=True, exclude_none=True) if route.gateway else {}
    body = {"parentRefs": [parent], "hostnames": names.hosts(parts.settings.domain), "rules": [rule]}
    return parts.manifest("gateway.networking.k8s.io/v1", "HTTPRoute", body, annotations=route.annotations)


def _note_host(parts: Parts) -> None:
    """Names of objects differ for all deployments; host names are made as on one machine."""
    if parts.spec.name != parts.names.slug and parts.known.slug is None:
        host = parts.names.hosts(parts.settings.domain)[0]
        message = f"makes the host name {host}, as any name would that differs only in its other characters"
        parts.findings.note(("name",), message)
