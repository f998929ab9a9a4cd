"""Objects that Kubernetes itself does not know: the fields that hale writes, as their projects define them.

Facts of the definitions of Gateway API, KEDA, Traefik and Envoy Gateway; closed: nothing else gets by.
"""

from typing import Any

Schema = dict[str, Any]

_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema, most: int, least: int = 1) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _text(longest: int = 253, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": longest, **more}


def _whole(least: int, most: int = 2**31 - 1) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _definition(api_version: str, kind: str, spec: Schema) -> Schema:
    metadata = {"type": "object", "required": ["name", "namespace", "labels"]}
    head = {"apiVersion": {"const": api_version}, "kind": {"const": kind}}
    return _object({**head, "metadata": metadata, "spec": spec})


_PARENT = _object(
    {"name": _text()},
    namespace=_text(63, pattern=_LABEL),
    sectionName=_text(pattern=_SUBDOMAIN),
)
_MATCH = _object(
    {"path": _object({"type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]}, "value": _text(1024)})}
)
_FILTER = _object(
    {
        "type": {"const": "ExtensionRef"},
        "extensionRef": _object({"group": _text(), "kind": _text(63), "name": _text()}),
    }
)
_RULE = _object(
    {"backendRefs": _list(_object({"name": _text(), "port": _whole(1, 65535)}), 16)},
    matches=_list(_MATCH, 64),
    filters=_list(_FILTER, 16),
)
_HTTP_ROUTE = _object(
    {
        "parentRefs": _list(_PARENT, 32),
        "hostnames": _list(_text(pattern=_SUBDOMAIN), 16),
        "rules": _list(_RULE, 16),
    }
)

_POLICY = _object(
    {"type": {"enum": ["Pods", "Percent"]}, "value": _whole(1), "periodSeconds": _whole(1, 1800)}
)
_SCALING_RULES = _object({}, stabilizationWindowSeconds=_whole(0, 3600), policies=_list(_POLICY, 10))
_TRIGGER = _object(
    {
        "type": {"enum": ["prometheus", "cpu", "memory"]},
        "metricType": {"enum": ["Utilization", "AverageValue", "Value"]},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    }
)
_SCALED_OBJECT = _object(
    {
        "scaleTargetRef": _object({"name": _text()}, apiVersion=_text(), kind=_text()),
        "triggers": _list(_TRIGGER, 10),
    },
    minReplicaCount=_whole(0),
    maxReplicaCount=_whole(1),
    pollingInterval=_whole(1),
    advanced=_object(
        {
            "horizontalPodAutoscalerConfig": _object(
                {"behavior": _object({}, scaleDown=_SCALING_RULES, scaleUp=_SCALING_RULES)}
            )
        }
    ),
)

_MIDDLEWARE = _object({"basicAuth": _object({"secret": _text()})})
_SECURITY_POLICY = _object(
    {
        "targetRefs": _list(
            _object(
                {
                    "group": {"const": "gateway.networking.k8s.io"},
                    "kind": {"const": "HTTPRoute"},
                    "name": _text(),
                }
            ),
            16,
        ),
        "basicAuth": _object({"users": _object({"name": _text()})}),
    }
)

DEFINITIONS = {
    (api_version, kind): _definition(api_version, kind, spec)
    for api_version, kind, spec in [
        ("gateway.networking.k8s.io/v1", "HTTPRoute", _HTTP_ROUTE),
        ("keda.sh/v1alpha1", "ScaledObject", _SCALED_OBJECT),
        ("traefik.io/v1alpha1", "Middleware", _MIDDLEWARE),
        ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy", _SECURITY_POLICY),
    ]
}
