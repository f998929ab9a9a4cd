"""Integrations: a claim for each, a Job that fills it, and replicas that wait for that. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from hale.core.volume import Source
from hale.kubernetes.filling import FOLDER, image, job, keys
from hale.kubernetes.findings import Needed
from hale.kubernetes.names import Object
from hale.kubernetes.parts import SECURITY, Parts
from hale.kubernetes.variables import escaped, referenced
from hale.spec.schema import Integration, Volume

WAIT = """\
cd "$HALE_VOLUME"
for volume in *; do
  until [ -e "$volume/filled" ]; do
    sleep 1
  done
done
"""


@dataclass(frozen=True, slots=True)
class Mounted:
    """What pods have of it, and the objects beside them."""

    volumes: tuple[Object, ...] = ()
    mounts: tuple[Object, ...] = ()
    waits: tuple[Object, ...] = ()
    objects: tuple[Object, ...] = ()


def mounted(parts: Parts) -> Mounted:
    """Every integration of the spec."""
    sources = parts.template.sources
    claims = [_claim_name(source, parts) for source in sources]
    jobs = [
        job(index, each, source, claims[index], parts)
        for index, (each, source) in enumerate(_integrations(parts))
        if not source.writable
    ]
    _check(parts)
    return Mounted(
        volumes=tuple(
            {"name": _name(index), "persistentVolumeClaim": {"claimName": claim}}
            for index, claim in enumerate(claims)
        ),
        mounts=tuple(_mount(index, source) for index, source in enumerate(sources)),
        waits=tuple(_waits(parts)),
        objects=(*(_claim(claim, parts) for claim in claims), *jobs),
    )


def need(parts: Parts) -> None:
    """The Secret of the deployment's secrets, if there are any."""
    used = {name: f"the secret {name}" for name in referenced(parts.spec)}
    for each, source in _integrations(parts):
        used |= keys(each, source)
    if used:
        parts.findings.need(Needed(parts.names.secrets, "Opaque", tuple(used.items())))


def _integrations(parts: Parts) -> Sequence[tuple[Integration, Source]]:
    return list(zip(parts.spec.integrations or (), parts.template.sources, strict=True))


def _name(index: int) -> str:
    return f"volume-{index}"


def _claim_name(source: Source, parts: Parts) -> str:
    """One that is written to must be found again, whatever else changes; the others can be filled anew."""
    if source.writable:
        return parts.names.volume(source.name, source.type)
    kept_on = (parts.settings.volumes.storage_class, parts.settings.volumes.access_mode)
    return parts.names.volume(source.name, source.type, source.key, *kept_on)


def _claim(name: str, parts: Parts) -> Object:
    kept_on = parts.settings.volumes
    body: Object = {
        "accessModes": [kept_on.access_mode],
        "resources": {"requests": {"storage": kept_on.size}},
    }
    if kept_on.storage_class is not None:
        body["storageClassName"] = kept_on.storage_class
    return parts.manifest("v1", "PersistentVolumeClaim", body, name=name)


def _mount(index: int, source: Source) -> Object:
    return {
        "name": _name(index),
        "mountPath": source.target,
        "subPath": "content",
        "readOnly": not source.writable,
    }


def _waits(parts: Parts) -> list[Object]:
    """One container before the replica's own that ends when every volume has been filled."""
    filled = [(index, each) for index, each in enumerate(parts.template.sources) if not each.writable]
    if not filled:
        return []
    wait = {
        "name": "volumes",
        "image": image(filled[0][1], parts),
        "command": ["sh", "-c", escaped(WAIT)],
        "env": [{"name": "HALE_VOLUME", "value": FOLDER}],
        "securityContext": dict(SECURITY),
        "volumeMounts": [
            {"name": _name(index), "mountPath": f"{FOLDER}/{index}", "readOnly": True} for index, _ in filled
        ],
    }
    return [wait]


def _check(parts: Parts) -> None:
    integrations = _integrations(parts)
    for index, (each, source) in enumerate(integrations):
        if ":" in source.target:
            field = "name" if isinstance(each, Volume) or each.path is None else "path"
            message = f"can't be mounted at {source.target} on a cluster"
            parts.findings.refuse(("integrations", index, field), message, "choose a path without a colon")
    if integrations and parts.settings.volumes.access_mode == "ReadWriteOnce":
        message = "are on volumes that one node at a time can have: every replica must run there"
        hint = "set volumes.accessMode: ReadWriteMany in the settings"
        parts.findings.note(("integrations",), message, hint)
