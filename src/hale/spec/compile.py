"""A spec as values of the core, and as clients see it. Pure."""

import hashlib
import json
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hale.core import backoff as core_backoff
from hale.core import deployment as core
from hale.core.probe import ExecAction, HttpAction, Probe, ProbeKind
from hale.core.secret import Secret, reference
from hale.core.volume import Source
from hale.spec.masks import masked
from hale.spec.problems import Loc
from hale.spec.references import Known, by_name, resolved, versions
from hale.spec.references import references as references  # part of what a spec is compiled to
from hale.spec.schema import AnyCheck, Backoff, ExecCheck, Settings, Spec
from hale.spec.volumes import sources


def whole(spec: Spec) -> dict[str, Any]:
    """The spec with `hale`; passwords in it are masked."""
    return masked(spec.data())


def gradient_part(spec: Spec) -> dict[str, Any]:
    """The spec as Gradient's clients read it: without `hale`, and always with an `image`."""
    data = whole(spec)
    data.pop("hale", None)
    data.setdefault("image", "")
    return data


def replicas(spec: Spec) -> int:
    """How many are wanted: none of a disabled one."""
    return spec.resources.replicas if spec.enabled else 0


def password(spec: Spec, secrets: Iterable[Secret] = ()) -> str | None:
    """The password of a protected endpoint, None for a public one; RefusedError if its secret is missing."""
    if spec.basic_auth_key is None:
        return None
    return resolved(("basicAuthKey",), spec.basic_auth_key, by_name(secrets))


def strategy(spec: Spec) -> core.Strategy:
    """How a revision takes over."""
    own, default = _own(spec).strategy, core.Strategy()
    if own is None:
        return default
    return core.Strategy(
        max_surge=default.max_surge if own.max_surge is None else _share(own.max_surge),
        max_unavailable=default.max_unavailable
        if own.max_unavailable is None
        else _share(own.max_unavailable),
        progress_deadline=_or(own.progress_deadline_seconds, default.progress_deadline),
    )


def template(
    spec: Spec,
    *,
    secrets: Iterable[Secret] = (),
    image: str | None = None,
    machines: Mapping[str, core.Machine] | None = None,
) -> core.Template:
    """What a replica is made of, without the mounts; RefusedError if a secret that it needs is missing.

    `image` is what the spec's image stood for when it was pulled. In `env` a `$` of a secret is written `$$`:
    it stands for itself when the variables are expanded.
    """
    own, default, known = _own(spec), core.Template(key=""), by_name(secrets)
    filled = sources(spec, known)
    name = spec.resources.machine_type
    return core.Template(
        key=_key(spec, image, versions(spec, known), filled),
        command=spec.command or (),
        image=spec.image,
        pinned=image,
        registry=spec.container_registry or None,
        pull=default.pull if own.pull is None else core.Pull(own.pull),
        machine=(machines or {}).get(name, core.Machine(name)),
        sources=filled,
        env=_env(spec, known),
        ports=spec.resources.ports,
        workdir=own.workdir,
        probes=_probes(spec),
        backoff=_backoff(own.backoff),
        eager=default.eager if own.eager is None else own.eager,
        drain=_or(own.drain_seconds, default.drain),
        grace=_or(own.grace_period_seconds, default.grace),
    )


def _env(spec: Spec, known: Known) -> tuple[tuple[str, str], ...]:
    return tuple(
        (variable.name, _taken(("env", index, "value"), variable.value, known))
        for index, variable in enumerate(spec.env or ())
    )


def _taken(loc: Loc, value: str, known: Known) -> str:
    found = resolved(loc, value, known)
    return found if reference(value) is None else found.replace("$", "$$")


def _own(spec: Spec) -> Settings:
    return spec.hale or Settings()


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _share(value: int | str) -> core.Share:
    return (
        core.Share(float(value.removesuffix("%")), percent=True)
        if isinstance(value, str)
        else core.Share(value)
    )


def _backoff(own: Backoff | None) -> core_backoff.Backoff:
    default = core_backoff.Backoff()
    if own is None:
        return default
    return core_backoff.Backoff(
        initial=_or(own.initial_seconds, default.initial),
        maximum=_or(own.max_seconds, default.maximum),
        reset_after=_or(own.reset_after_seconds, default.reset_after),
    )


def _probes(spec: Spec) -> dict[ProbeKind, Probe]:
    checks = spec.health_checks
    if checks is None:
        return {}
    found = {
        ProbeKind.STARTUP: checks.startup,
        ProbeKind.READINESS: checks.readiness,
        ProbeKind.LIVENESS: checks.liveness,
    }
    return {kind: _probe(kind, check) for kind, check in found.items() if check is not None}


def _probe(kind: ProbeKind, check: AnyCheck) -> Probe:
    action = _action(check)
    default = Probe(kind, action)
    return Probe(
        kind,
        action,
        initial_delay=_or(check.initial_delay_seconds, default.initial_delay),
        period=_or(check.period_seconds, default.period),
        timeout=_or(check.timeout_seconds, default.timeout),
        failure_threshold=check.failure_threshold or default.failure_threshold,
    )


def _action(check: AnyCheck) -> HttpAction | ExecAction:
    if isinstance(check, ExecCheck):
        return ExecAction(check.exec_.command)
    return HttpAction(
        path=quote(check.path, safe=string.punctuation),
        port=check.port,
        host=check.host or None,
        headers=tuple((header.name, header.value) for header in check.headers or ()),
    )


def _key(spec: Spec, image: str | None, set_at: Mapping[str, float], volumes: Sequence[Source]) -> str:
    """A digest of what is written, not of what comes of it: a new default of hale replaces no replica.

    What a name in the spec stands for (an image, a secret, a volume) is there under a version, never a value.
    """
    data = spec.data()
    for name in ("apiVersion", "name", "enabled", "basicAuthKey"):
        data.pop(name, None)
    for name in ("replicas", "autoscaling"):
        data["resources"].pop(name, None)
    data.get("hale", {}).pop("strategy", None)
    data |= {"pinned": image, "secrets": dict(set_at), "volumes": [volume.key for volume in volumes]}
    said = {name: value for name, value in data.items() if value not in (None, [], {})}
    # The 0 is what every key was made with from the first version on.
    text = json.dumps({**said, "restarts": 0}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
