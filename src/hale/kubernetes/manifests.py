"""A spec as the objects of a cluster: `render`. Pure: the same in, the same out, in the same order."""

from dataclasses import dataclass

from hale.core.backoff import Backoff as CoreBackoff
from hale.core.deployment import Template
from hale.core.secret import Secret
from hale.kubernetes import scaling, traffic, volumes, workload
from hale.kubernetes.findings import Findings, Needed
from hale.kubernetes.names import Known, Names, Object
from hale.kubernetes.parts import Parts
from hale.kubernetes.settings import Settings
from hale.spec import compile as compiled
from hale.spec import unsupported
from hale.spec.problems import Problem, SpecError
from hale.spec.schema import Backoff, Spec


@dataclass(frozen=True, slots=True)
class Rendered:
    """Objects in the order in which they are applied; what is different on a cluster; Secrets they need."""

    objects: tuple[Object, ...]
    notes: tuple[Problem, ...]
    secrets: tuple[Needed, ...]


def render(spec: Spec, settings: Settings | None = None, known: Known | None = None) -> Rendered:
    """The manifests of a spec; SpecError with every field that a cluster can't do as it is written."""
    settings, known, findings = settings or Settings(), known or Known(), Findings(spec)
    _check_image(spec, findings)
    # What can't be done on one machine can't be done here either, but for scaling.
    refused = unsupported.refusals(_without_scaling(spec))
    if refused:
        raise SpecError([*findings.refused, *refused], doing="render")
    names = Names.of(spec.name, spec.document(), known, settings.namespace)
    objects = _objects(Parts(spec, _template(spec, known), settings, names, known, findings))
    findings.raise_refused()
    _note_the_rest(spec, findings)
    notes = sorted(findings.notes, key=lambda note: (note.line or 0, note.column or 0))
    return Rendered(tuple(objects), tuple(notes), tuple(findings.secrets))


def _objects(parts: Parts) -> list[Object]:
    """What others refer to comes first."""
    volumes.need(parts)
    mounted = volumes.mounted(parts)
    scaler = scaling.autoscaler(parts)
    return [
        *mounted.objects,
        traffic.service(parts),
        workload.deployment(parts, mounted, scaled=scaler is not None),
        *([] if scaler is None else [scaler]),
        *([workload.disruption(parts)] if compiled.replicas(parts.spec) > 1 else []),
        *traffic.route(parts),
    ]


def _check_image(spec: Spec, findings: Findings) -> None:
    if not spec.image:
        hint = "build one, push it and name it here"
        findings.refuse(("image",), "is missing: a cluster runs images", hint)
    elif any(character.isspace() for character in spec.image):
        findings.refuse(("image",), "must be the name of an image, which has no blanks")


def _template(spec: Spec, known: Known) -> Template:
    """What a replica is made of. Of secrets only the names are used, and when they were set."""
    set_at = known.secrets or {}
    names = {name for _, name in compiled.references(spec)}
    stand_ins = [Secret(name, "", 0.0, set_at.get(name, 0.0)) for name in names]
    return compiled.template(spec, secrets=stand_ins, image=known.image)


def _without_scaling(spec: Spec) -> Spec:
    resources = spec.resources.model_copy(update={"autoscaling": None})
    return spec.model_copy(update={"resources": resources})


def _note_the_rest(spec: Spec, findings: Findings) -> None:
    """What a cluster has nothing for."""
    if spec.region:
        findings.note(("region",), "has no effect: replicas run where the cluster is")
    own = spec.hale
    if own is None:
        return
    if own.workdir is not None:
        message = "has no effect: a container runs in the folder that its image names"
        findings.note(("hale", "workdir"), message)
    if own.eager:
        message = "has no effect: a cluster checks every periodSeconds and not between"
        findings.note(("hale", "eager"), message)
    if own.backoff is not None and _differs(own.backoff, CoreBackoff()):
        message = "has no effect: a cluster waits 10 s at first, twice as long each time, 300 s at most"
        findings.note(("hale", "backoff"), message)


def _differs(backoff: Backoff, usual: CoreBackoff) -> bool:
    """The usual one is that of the kubelet, too."""
    pairs = (
        (backoff.initial_seconds, usual.initial),
        (backoff.max_seconds, usual.maximum),
        (backoff.reset_after_seconds, usual.reset_after),
    )
    return any(written is not None and written != default for written, default in pairs)
