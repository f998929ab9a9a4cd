"""From what the Store holds to what a deployment should be: compiled once per revision."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from hale.core.deployment import Deployment, Desired, Machine, Revision, Strategy, Template
from hale.core.probe import Probe, ProbeKind, TcpAction
from hale.core.replica import Replica
from hale.core.secret import Secret
from hale.core.volume import Mount, Source
from hale.spec import compile as compiled
from hale.spec.schema import Spec

Folder = Callable[[str, Source], str]
"""Where a volume of a deployment is."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    template: Template
    replicas: int
    enabled: bool
    strategy: Strategy
    password: str | None = field(repr=False)


class Compiler:
    """Revisions as they are on this machine: with its folders, and the limits of its machine types."""

    def __init__(self, folder: Folder, machines: Mapping[str, Machine]) -> None:
        self._folder = folder
        self._machines = machines
        self._compile = lru_cache(maxsize=512)(self._compiled)

    def desired(self, deployment: Deployment, newest: Revision, *, not_before: float = 0.0) -> Desired:
        """What the deployment should be now; nothing runs when it is deleted or disabled.

        Progress is waited for from `not_before` on, if it was asked for earlier.
        """
        known = self._of(newest)
        reason = ""
        if deployment.deleted_at is not None:
            reason = "the deployment is deleted"
        elif not known.enabled:
            reason = "the deployment is disabled"
        replicas = 0 if reason else known.replicas
        return Desired(
            deployment=deployment,
            revision=newest.number,
            template=_restarted(self._mounted(known.template, deployment.id), deployment.restarts),
            replicas=replicas,
            strategy=known.strategy,
            since=max(newest.created_at, newest.prepared_at or 0.0, not_before),
            password=known.password,
            reason=reason,
            # What shall not run needs nothing, until it shall.
            prepared=newest.prepared_at is not None or not _needs(known.template) or replicas == 0,
        )

    def templates(self, revisions: Sequence[Revision], keys: Sequence[str]) -> Mapping[str, Template]:
        """The templates behind these keys, as far as a revision still has them."""
        plain = {(each := self._template(revision)).key: each for revision in revisions}
        found = {}
        for key in keys:
            base, _, restarts = key.rpartition(".")
            if base in plain:
                found[key] = _restarted(plain[base], int(restarts))
        return found

    def template(self, revisions: Sequence[Revision], replica: Replica) -> Template | None:
        """The template of the revision that the replica was made for, under the key that it has."""
        for revision in revisions:
            if revision.number == replica.revision:
                return replace(self._template(revision), key=replica.template)
        return None

    def password(self, revision: Revision) -> str | None:
        return self._of(revision).password

    def written(self, revisions: Sequence[Revision]) -> frozenset[str]:
        """The keys of the volumes that replicas of these can write to."""
        # Few specs have any: the others need not be compiled for this.
        having = [self._of(revision).template for revision in revisions if '"volume"' in revision.document]
        return frozenset(source.key for each in having for source in each.sources if source.writable)

    def _template(self, revision: Revision) -> Template:
        return self._mounted(self._of(revision).template, revision.deployment_id)

    def _mounted(self, template: Template, deployment_id: str) -> Template:
        mounts = tuple(
            Mount(source.name, self._folder(deployment_id, source), source.target, source.writable)
            for source in template.sources
        )
        return replace(template, mounts=mounts)

    def _of(self, revision: Revision) -> _Compiled:
        return self._compile(revision.document, revision.secrets, revision.image)

    def _compiled(self, document: str, secrets: tuple[Secret, ...], image: str | None) -> _Compiled:
        spec = Spec.from_document(document)
        return _Compiled(
            _checked(compiled.template(spec, secrets=secrets, image=image, machines=self._machines)),
            compiled.replicas(spec),
            spec.enabled,
            compiled.strategy(spec),
            compiled.password(spec, secrets),
        )


def gone_down(desired: Desired) -> Desired:
    """The same, while hale goes down: nothing runs."""
    return replace(desired, replicas=0, reason="hale goes down", prepared=True)


def _needs(template: Template) -> bool:
    """Whether anything has to be here before a replica can be."""
    return template.image is not None or bool(template.sources)


def _checked(template: Template) -> Template:
    """Without startup and readiness checks a replica is ready once its first port accepts a connection."""
    if template.probes.keys() & {ProbeKind.STARTUP, ProbeKind.READINESS}:
        return template
    accepts = Probe(ProbeKind.READINESS, TcpAction())
    return replace(template, probes={**template.probes, ProbeKind.READINESS: accepts})


def _restarted(template: Template, restarts: int) -> Template:
    """The same, for another round of replicas."""
    return replace(template, key=f"{template.key}.{restarts}")
