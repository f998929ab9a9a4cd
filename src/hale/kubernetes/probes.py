"""Health checks as probes: every field of Gradient's with its default written out. Pure."""

from ipaddress import ip_address

from hale.core.deployment import Template
from hale.core.probe import ExecAction, HttpAction, Probe, ProbeKind
from hale.kubernetes.findings import Findings
from hale.kubernetes.names import Object
from hale.kubernetes.variables import escaped
from hale.spec.problems import Loc

_FIELDS = {
    ProbeKind.STARTUP: "startupProbe",
    ProbeKind.READINESS: "readinessProbe",
    ProbeKind.LIVENESS: "livenessProbe",
}


def probes(template: Template, kill_grace: int, findings: Findings) -> Object:
    """The probes of the container; `kill_grace` is how long a replica has that a check ends.

    Without startup and readiness a replica is ready once its first port accepts a connection.
    """
    found = {
        _FIELDS[kind]: _probe(probe, template, kill_grace, findings)
        for kind in _FIELDS
        if (probe := template.probes.get(kind)) is not None
    }
    if not {"startupProbe", "readinessProbe"} & found.keys():
        default = Probe(ProbeKind.READINESS, HttpAction("/"))
        action = {"tcpSocket": {"port": template.ports[0]}}
        found = {"readinessProbe": action | _timing(default, None), **found}
    return found


def _probe(probe: Probe, template: Template, kill_grace: int, findings: Findings) -> Object:
    loc: Loc = ("healthChecks", probe.kind.value)
    made = _action(probe, template, loc, findings) | _timing(probe, findings)
    if probe.timeout > probe.period:
        longest = probe.failure_threshold * max(made["timeoutSeconds"], made["periodSeconds"])
        message = (
            f"is longer than periodSeconds: a check that hangs delays the next, and {longest} s may pass"
        )
        findings.note((*loc, "timeoutSeconds"), f"{message} before failureThreshold is reached")
    if probe.kind is not ProbeKind.READINESS:
        made["terminationGracePeriodSeconds"] = max(1, kill_grace)  # 0 is not allowed here
    return made


def _timing(probe: Probe, findings: Findings | None) -> Object:
    seconds = {
        "initialDelaySeconds": probe.initial_delay,
        "periodSeconds": probe.period,
        "timeoutSeconds": probe.timeout,
    }
    loc: Loc = ("healthChecks", probe.kind.value)
    whole = {
        name: int(value) if findings is None else findings.whole((*loc, name), value)
        for name, value in seconds.items()
    }
    counts = {"failureThreshold": probe.failure_threshold, "successThreshold": probe.success_threshold}
    return whole | counts


def _action(probe: Probe, template: Template, loc: Loc, findings: Findings) -> Object:
    action = probe.action
    if isinstance(action, ExecAction):
        # The kubelet looks for variables here, hale does not.
        return {"exec": {"command": [escaped(word) for word in action.command]}}
    assert isinstance(action, HttpAction)  # noqa: S101  (a spec has no other)
    get: Object = {
        "path": action.path if action.path.startswith("/") else f"/{action.path}",
        "port": action.port or template.ports[0],
        "scheme": "HTTP",
    }
    if action.host:
        get["host"] = action.host
        whose = "the node itself" if _loopback(action.host) else "that address"
        message = f"is dialled from the node that the replica is on: {action.host} is {whose} there"
        findings.note((*loc, "host"), message, "leave it out to ask the replica")
    if action.headers:
        get["httpHeaders"] = [{"name": name, "value": value} for name, value in action.headers]
    return {"httpGet": get}


def _loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
