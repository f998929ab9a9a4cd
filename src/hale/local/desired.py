"""From what the Store holds to what a deployment should be: compiled once per revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from hale.core.deployment import Deployment, Desired, Revision, Strategy, Template
from hale.core.probe import Probe, ProbeKind, TcpAction
from hale.core.replica import Replica
from hale.spec import compile as compiled
from hale.spec.schema import Spec


@dataclass(frozen=True, slots=True)
class _Compiled:
    template: Template
    replicas: int
    enabled: bool
    strategy: Strategy
    password: str | None


@lru_cache(maxsize=512)
def _compile(document: str) -> _Compiled:
    spec = Spec.from_document(document)
    return _Compiled(
        _checked(compiled.template(spec)),
        compiled.replicas(spec),
        spec.enabled,
        compiled.strategy(spec),
        compiled.password(spec),
    )


def _checked(template: Template) -> Template:
    """Without startup and readiness checks a replica is ready once its first port accepts a connection."""
    if template.probes.keys() & {ProbeKind.STARTUP, ProbeKind.READINESS}:
        return template
    accepts = Probe(ProbeKind.READINESS, TcpAction())
    return replace(template, probes={**template.probes, ProbeKind.READINESS: accepts})


def _restarted(template: Template, restarts: int) -> Template:
    """The same, for another round of replicas."""
    return replace(template, key=f"{template.key}.{restarts}")


def templates_of(revisions: Sequence[Revision], keys: Sequence[str]) -> Mapping[str, Template]:
    """The templates behind these keys, as far as a revision still has them."""
    plain = {c.template.key: c.template for r in revisions if (c := _compile(r.document))}
    found = {}
    for key in keys:
        base, _, restarts = key.rpartition(".")
        if base in plain:
            found[key] = _restarted(plain[base], int(restarts))
    return found


def template_of(revisions: Sequence[Revision], replica: Replica) -> Template | None:
    """The template of the revision that the replica was made for, under the key that it has."""
    for revision in revisions:
        if revision.number == replica.revision:
            return replace(_compile(revision.document).template, key=replica.template)
    return None


def desired_of(deployment: Deployment, newest: Revision, *, not_before: float = 0.0) -> Desired:
    """What the deployment should be now; nothing runs when it is deleted or disabled.

    Progress is waited for from `not_before` on, if it was asked for earlier.
    """
    known = _compile(newest.document)
    reason = ""
    if deployment.deleted_at is not None:
        reason = "the deployment is deleted"
    elif not known.enabled:
        reason = "the deployment is disabled"
    return Desired(
        deployment=deployment,
        revision=newest.number,
        template=_restarted(known.template, deployment.restarts),
        replicas=0 if reason else known.replicas,
        strategy=known.strategy,
        since=max(newest.created_at, not_before),
        password=known.password,
        reason=reason,
    )


def gone_down(desired: Desired) -> Desired:
    """The same, while hale goes down: nothing runs."""
    return replace(desired, replicas=0, reason="hale goes down")
