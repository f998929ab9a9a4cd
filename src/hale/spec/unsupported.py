"""What is valid and can't be done on this machine yet: refused when applied, never accepted and ignored."""

from collections.abc import Iterator

from hale.spec.compile import MASK, SECRET
from hale.spec.problems import Loc, Problem, path
from hale.spec.schema import HttpCheck, Spec

_CHECKS = ("liveness", "readiness", "startup")


def refusals(spec: Spec) -> list[Problem]:
    """Every reason why this spec can't be applied here, each with the field as it is written."""
    return [*_sources(spec), *_scaling(spec), *_secrets(spec), *_check_ports(spec)]


def notes(spec: Spec) -> list[str]:
    """What is accepted and makes no difference here; warnings."""
    fields = [_written(spec, ("resources", "machineType"))] + (["region"] if spec.region else [])
    verb = "have" if len(fields) > 1 else "has"
    said = [f"{' and '.join(fields)} {verb} no effect here: replicas run on this machine"]
    names = [variable.name for variable in spec.env or ()]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    return said + [f"env has {name} more than once: the last one counts" for name in twice]


def _problem(spec: Spec, loc: Loc, message: str, hint: str = "") -> Problem:
    return spec.origin.source.problem(_loc(spec, loc), message, hint)


def _loc(spec: Spec, loc: Loc) -> Loc:
    """The place in the file, which may be in another dialect."""
    for old, new in spec.origin.renamed.items():
        if loc[: len(old)] == old:
            return new
    root = spec.origin.source.root
    if root and loc[:1] == ("healthChecks",) and root.child("healthChecks") is None:
        return ("healthchecks", *loc[1:])
    return loc


def _written(spec: Spec, loc: Loc) -> str:
    return path(_loc(spec, loc))


def _sources(spec: Spec) -> Iterator[Problem]:
    if spec.integrations:
        yield _problem(spec, ("integrations",), "volumes can't be mounted here yet", "remove it")
    for field in spec.origin.dropped:
        yield _problem(spec, (field,), "repositories can't be mounted here yet", "remove it")
    if spec.container_registry:
        message = "registry connections are not kept here yet"
        yield _problem(
            spec, ("containerRegistry",), message, "remove it, and use a public image or a command"
        )


def _scaling(spec: Spec) -> Iterator[Problem]:
    autoscaling = spec.resources.autoscaling
    if autoscaling and autoscaling.enabled is not False:
        loc = ("resources", "autoscaling")
        yield _problem(spec, loc, "can't be done here yet", "remove it or set enabled: false; replicas stays")


def _secrets(spec: Spec) -> Iterator[Problem]:
    message, hint = "refers to a secret, and there are no secrets here yet", "write the value itself"
    for index, variable in enumerate(spec.env or ()):
        if variable.value.startswith(SECRET):
            yield _problem(spec, ("env", index, "value"), message, hint)
    key = spec.basic_auth_key or ""
    if key.startswith(SECRET):
        yield _problem(spec, ("basicAuthKey",), message, hint)
    if key == MASK:
        shown = "is the mask that hale shows for a password, not a password"
        yield _problem(spec, ("basicAuthKey",), shown, "write the password")


def _check_ports(spec: Spec) -> Iterator[Problem]:
    ports = spec.resources.ports
    for kind in _CHECKS:
        check = getattr(spec.health_checks, kind, None)
        if isinstance(check, HttpCheck) and check.port is not None and check.port not in ports:
            declared = ", ".join(str(port) for port in ports)
            where = _written(spec, ("resources", "ports"))
            message = f"must be a port of {where} ({declared}), not {check.port}"
            yield _problem(spec, ("healthChecks", kind, "port"), message)
