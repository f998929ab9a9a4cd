"""Integrations: a claim for each, a Job that fills it once, and replicas that wait for that. Pure.

A claim holds `content`, which replicas see, and `filled` once all of it is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hale.core.deployment import Template
from hale.core.secret import reference
from hale.core.volume import Source, variable
from hale.kubernetes.findings import Findings, Needed
from hale.kubernetes.names import SECURITY, Names, Object
from hale.kubernetes.settings import Settings
from hale.kubernetes.variables import escaped, from_secret, referenced
from hale.spec.problems import Loc
from hale.spec.schema import S3, Integration, Spaces, Spec, Volume

FOLDER = "/volume"
_CONTENT = "content"
_MOST_FAILURES = 2**31 - 1
"""A fill is tried for ever, as on one machine; kubelet waits 10 s, then twice as long, 300 s at most."""
_REACHABLE = ("https", "http", "git")

FILL_S3 = """\
set -eu
cd "$HALE_VOLUME"
[ ! -e filled ] || exit 0
mkdir -p content
fetch() {
  rclone sync "source:$1" content --config= --use-server-modtime --transfers=8 --checkers=8 \\
    --buffer-size=4Mi --contimeout=15s --timeout=60s --low-level-retries=3 --retries=1
}
prefix=$HALE_PREFIX
fetch "$HALE_BUCKET/${prefix:+$prefix/}"
if [ -n "$prefix" ] && [ -z "$(ls -A content)" ]; then
  fetch "$HALE_BUCKET/$prefix"
  if [ -z "$(ls -A content)" ]; then
    echo "there is nothing with the prefix $prefix" >&2
    exit 1
  fi
fi
touch filled
"""
"""With the slash at the end a prefix is never taken for an object's name; then it may be one."""

FILL_GIT = """\
set -eu
cd "$HALE_VOLUME"
[ ! -e filled ] || exit 0
rm -rf content git
mkdir content
export GIT_DIR="$PWD/git" GIT_WORK_TREE="$PWD/content" GIT_TERMINAL_PROMPT=0
url=${HALE_URL%%#*}
ref=HEAD
case $HALE_URL in *#?*) ref=${HALE_URL#*#} ;; esac
git init --quiet
git lfs install --local --force >/dev/null
git config gc.auto 0
git remote add origin "$url"
git fetch --no-tags --depth=1 origin "$ref"
cd content
git checkout --quiet --force --detach FETCH_HEAD
git lfs fetch origin
git lfs checkout
cd ..
rm -rf git
touch filled
"""
"""The files of one commit, the large ones too, without a history."""

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


def mounted(spec: Spec, template: Template, settings: Settings, names: Names, findings: Findings) -> Mounted:
    """Every integration of the spec."""
    claims = [_claim_name(source, settings, names) for source in template.sources]
    jobs = [
        _job(index, each, source, claim, settings, names, findings)
        for index, (each, source, claim) in enumerate(
            zip(spec.integrations or (), template.sources, claims, strict=True)
        )
        if not source.writable
    ]
    for index, source in enumerate(template.sources):
        _check_target(index, source, spec, findings)
    if template.sources:
        _note_access(settings, findings)
    return Mounted(
        tuple(
            {"name": _name(index), "persistentVolumeClaim": {"claimName": claim}}
            for index, claim in enumerate(claims)
        ),
        tuple(_mount(index, source) for index, source in enumerate(template.sources)),
        tuple(_waits(template.sources, settings)),
        (*(_claim(claim, settings, names) for claim in claims), *jobs),
    )


def keys(spec: Spec, sources: Iterable[Source]) -> tuple[tuple[str, str], ...]:
    """The keys of the deployment's Secret that filling needs, with what they hold."""
    found: dict[str, str] = {}
    for each, source in zip(spec.integrations or (), sources, strict=True):
        for text in _credentials(each).values():
            if (name := reference(text)) is not None:
                found[name] = f"the secret {name}"
        if source.type == "git-lfs" and _has_user(source.url):
            found[_url_key(source)] = f"the url of the integration {source.name}, with its password"
    return tuple(found.items())


def _name(index: int) -> str:
    return f"volume-{index}"


def _claim_name(source: Source, settings: Settings, names: Names) -> str:
    """One that is written to must be found again, whatever else changes; the others can be filled anew."""
    if source.writable:
        return names.volume(source.name, source.type)
    kept_on = (settings.volumes.storage_class, settings.volumes.access_mode)
    return names.volume(source.name, source.type, source.key, *kept_on)


def _claim(name: str, settings: Settings, names: Names) -> Object:
    spec: Object = {
        "accessModes": [settings.volumes.access_mode],
        "resources": {"requests": {"storage": settings.volumes.size}},
    }
    if settings.volumes.storage_class is not None:
        spec["storageClassName"] = settings.volumes.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": names.metadata(name),
        "spec": spec,
    }


def _mount(index: int, source: Source) -> Object:
    return {
        "name": _name(index),
        "mountPath": source.target,
        "subPath": _CONTENT,
        "readOnly": not source.writable,
    }


def _waits(sources: Iterable[Source], settings: Settings) -> Iterable[Object]:
    """One container before the replica's own that ends when every volume has been filled."""
    filled = [(index, source) for index, source in enumerate(sources) if not source.writable]
    if filled:
        yield {
            "name": "volumes",
            "image": _image(filled[0][1], settings),
            "command": ["sh", "-c", escaped(WAIT)],
            "env": [{"name": "HALE_VOLUME", "value": FOLDER}],
            "securityContext": dict(SECURITY),
            "volumeMounts": [
                {"name": _name(index), "mountPath": f"{FOLDER}/{index}", "readOnly": True}
                for index, _ in filled
            ],
        }


def _image(source: Source, settings: Settings) -> str:
    return settings.images.s3 if source.type == "s3" else settings.images.git


def _job(
    index: int,
    each: Integration,
    source: Source,
    claim: str,
    settings: Settings,
    names: Names,
    findings: Findings,
) -> Object:
    body = {
        "backoffLimit": _MOST_FAILURES,
        "template": {
            "metadata": {"labels": names.pod("fill")},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "restartPolicy": "OnFailure",
                "containers": [
                    {
                        "name": "fill",
                        "image": _image(source, settings),
                        "command": ["sh", "-c", escaped(FILL_S3 if source.type == "s3" else FILL_GIT)],
                        "env": _environment(("integrations", index), each, source, names, findings),
                        "securityContext": dict(SECURITY),
                        "volumeMounts": [{"name": "volume", "mountPath": FOLDER}],
                    }
                ],
                "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
            },
        },
    }
    metadata = names.metadata(names.filling(body), {"hale/integration": source.name})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": body}


def _environment(
    at: Loc, each: Integration, source: Source, names: Names, findings: Findings
) -> list[Object]:
    env: list[Object] = [{"name": "HALE_VOLUME", "value": FOLDER}]
    if source.type == "git-lfs":
        return [*env, _url(at, source, names, findings)]
    bucket, _, prefix = source.url.removeprefix("s3://").partition("/")
    plain = {
        "HALE_BUCKET": bucket,
        "HALE_PREFIX": prefix.strip("/"),
        "RCLONE_CONFIG_SOURCE_TYPE": "s3",
        "RCLONE_CONFIG_SOURCE_PROVIDER": "Other" if source.endpoint else "AWS",
        "RCLONE_CONFIG_SOURCE_ENDPOINT": source.endpoint,
        "RCLONE_CONFIG_SOURCE_REGION": source.region,
        "RCLONE_CONFIG_SOURCE_FORCE_PATH_STYLE": "true" if source.endpoint else None,
    }
    env += [{"name": name, "value": escaped(value)} for name, value in plain.items() if value is not None]
    return env + [_credential(name, text, names) for name, text in _credentials(each).items()]


def _credential(name: str, text: str, names: Names) -> Object:
    secret = reference(text)
    if secret is None:
        return {"name": name, "value": escaped(text)}
    return {"name": name, "valueFrom": from_secret(names.secrets, secret)}


def _credentials(each: Integration) -> Mapping[str, str]:
    if not isinstance(each, S3 | Spaces):
        return {}
    found = {
        "RCLONE_CONFIG_SOURCE_ACCESS_KEY_ID": each.access_key_id,
        "RCLONE_CONFIG_SOURCE_SECRET_ACCESS_KEY": each.secret_access_key,
    }
    return {name: text for name, text in found.items() if text is not None}


def _url(at: Loc, source: Source, names: Names, findings: Findings) -> Object:
    """One with a password in it comes from the Secret."""
    scheme = source.url.partition(":")[0].lower()
    if scheme not in _REACHABLE:
        message = f"can't be reached from a cluster: {scheme} needs files or keys of this machine"
        findings.refuse((*at, "url"), message, "write an address of https")
    if _has_user(source.url):
        return {"name": "HALE_URL", "valueFrom": from_secret(names.secrets, _url_key(source))}
    return {"name": "HALE_URL", "value": escaped(source.url)}


def _has_user(url: str) -> bool:
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:
        return False


def _url_key(source: Source) -> str:
    return f"{variable(source.name)}_URL"


def _check_target(index: int, source: Source, spec: Spec, findings: Findings) -> None:
    if ":" in source.target:
        each = (spec.integrations or ())[index]
        field = "name" if isinstance(each, Volume) or each.path is None else "path"
        message = f"can't be mounted at {source.target} on a cluster"
        findings.refuse(("integrations", index, field), message, "choose a path without a colon")


def _note_access(settings: Settings, findings: Findings) -> None:
    if settings.volumes.access_mode == "ReadWriteOnce":
        message = "are on volumes that one node at a time can have: every replica must run there"
        findings.note(("integrations",), message, "set volumes.accessMode: ReadWriteMany in the settings")


def needed(spec: Spec, template: Template, names: Names) -> Iterable[Needed]:
    """The Secret of the deployment's secrets, if there are any."""
    used = {name: f"the secret {name}" for name in referenced(spec)}
    used |= dict(keys(spec, template.sources))
    if used:
        yield Needed(names.secrets, "Opaque", tuple(used.items()))
