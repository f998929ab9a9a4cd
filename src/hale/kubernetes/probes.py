"""Health checks as probes: every field of Gradient's with its default written out. Pure."""

from ipaddress import ip_address

from hale.core.probe import ExecAction, HttpAction, Probe, ProbeKind, TcpAction
from hale.kubernetes.findings import Findings
from hale.kubernetes.names import Object
from hale.kubernetes.parts import Parts
from hale.kubernetes.variables import escaped
from hale.spec.problems import Loc

_FIELDS = {
    ProbeKind.STARTUP: "startupProbe",
    ProbeKind.READINESS: "readinessProbe",
    ProbeKind.LIVENESS: "livenessProbe",
}


def probes(parts: Parts, kill_grace: int) -> Object:
    """The probes of the container; `kill_grace` is how long a replica has that a check ends.

    Without startup and readiness a replica is ready once its first port accepts a connection.
    """
    checks = dict(parts.template.probes)
    if not {ProbeKind.STARTUP, ProbeKind.READINESS} & checks.keys():
        checks[ProbeKind.READINESS] = Probe(ProbeKind.READINESS, TcpAction())
    return {_FIELDS[kind]: _probe(checks[kind], parts, kill_grace) for kind in _FIELDS if kind in checks}


def _probe(probe: Probe, parts: Parts, kill_grace: int) -> Object:
    loc: Loc = ("healthChecks", probe.kind.value)
    made = _action(probe, parts, loc) | _timing(probe, parts.findings, loc)
    if probe.timeout > probe.period:
        longest = probe.failure_threshold * max(made["timeoutSeconds"], made["periodSeconds"])
        message = f"is longer than periodSeconds: a check that hangs delays the next: {longest} s may pass"
        parts.findings.note((*loc, "timeoutSeconds"), f"{message} before failureThreshold is reached")
    if probe.kind is not ProbeKind.READINESS:
        made["terminationGracePeriodSeconds"] = max(1, kill_grace)  # 0 is not allowed here
    return made


def _timing(probe: Probe, findings: Findings, loc: Loc) -> Object:
    seconds = {
        "initialDelaySeconds": probe.initial_delay,
        "periodSeconds": probe.period,
        "timeoutSeconds": probe.timeout,
    }
    return {
        **{name: findings.whole((*loc, name), value) for name, value in seconds.items()},
        "failureThreshold": probe.failure_threshold,
        "successThreshold": probe.success_threshold,
    }


def _action(probe: Probe, parts: Parts, loc: Loc) -> Object:
    match probe.action:
        case ExecAction(command):
            # The kubelet looks for variables here, hale does not.
            return {"exec": {"command": [escaped(word) for word in command]}}
        case TcpAction(port):
            return {"tcpSocket": {"port": port or parts.port}}
        case HttpAction() as action:
            return {"httpGet": _get(action, parts, loc)}


def _get(action: HttpAction, parts: Parts, loc: Loc) -> Object:
    get: Object = {
        "path": action.path if action.path.startswith("/") else f"/{action.path}",
        "port": action.port or parts.port,
        "scheme": "HTTP",
    }
    if action.host:
        get["host"] = action.host.strip("[]")  # the kubelet puts an address into brackets itself
        whose = "the node itself" if _loopback(get["host"]) else "that address"
        message = f"is dialled from the node that the replica is on: {action.host} is {whose} there"
        parts.findings.note((*loc, "host"), message, "leave it out to ask the replica")
    if action.headers:
        get["httpHeaders"] = [{"name": name, "value": value} for name, value in action.headers]
    return get


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
