"""The Job that fills an integration's volume, once. Pure.

A volume holds `content`, which replicas see, and `filled` once all of it is there: nothing fills it again.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from hale.core.secret import reference
from hale.core.volume import Source, variable
from hale.kubernetes.names import Object
from hale.kubernetes.parts import POD, SECURITY, Parts
from hale.kubernetes.variables import escaped, from_secret
from hale.spec.problems import Loc
from hale.spec.schema import S3, Integration, Spaces

FOLDER = "/volume"
_MOST_FAILURES = 2**31 - 1
"""It is tried for ever, as on one machine: the kubelet waits 10 s, then twice as long, 300 s at most."""
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
GIT_LFS_SKIP_SMUDGE=1 git checkout --quiet --force --detach FETCH_HEAD
git lfs fetch --include= --exclude= origin
git lfs checkout
cd ..
rm -rf git
touch filled
"""
"""The files of one commit, the large ones too, without a history."""


def image(source: Source, parts: Parts) -> str:
    """What has the programs for it, and a shell."""
    return parts.settings.images.s3 if source.type == "s3" else parts.settings.images.git


def job(index: int, each: Integration, source: Source, claim: str, parts: Parts) -> Object:
    """The Job for an integration of the spec, on its claim."""
    container = {
        "name": "fill",
        "image": image(source, parts),
        "command": ["sh", "-c", escaped(FILL_S3 if source.type == "s3" else FILL_GIT)],
        "env": [{"name": "HALE_VOLUME", "value": FOLDER}, *_environment(index, each, source, parts)],
        "securityContext": dict(SECURITY),
        "volumeMounts": [{"name": "volume", "mountPath": FOLDER}],
    }
    pod = {
        **POD,
        "restartPolicy": "OnFailure",
        "containers": [container],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
    }
    body = {
        "backoffLimit": _MOST_FAILURES,
        "template": {"metadata": {"labels": parts.names.pod("fill")}, "spec": pod},
    }
    named = {"hale/integration": source.name}
    return parts.manifest("batch/v1", "Job", body, name=parts.names.filling(body), annotations=named)


def keys(each: Integration, source: Source) -> Mapping[str, str]:
    """The keys of the deployment's Secret that the Job reads, with what they hold."""
    names = (reference(text) for text in _credentials(each).values())
    found = {name: f"the secret {name}" for name in names if name is not None}
    if source.type == "git-lfs" and _has_user(source.url):
        found[_url_key(source)] = f"the url of the integration {source.name}, with its password"
    return found


def _environment(index: int, each: Integration, source: Source, parts: Parts) -> list[Object]:
    if source.type == "git-lfs":
        return [_url(("integrations", index, "url"), source, parts)]
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
    said = [{"name": name, "value": escaped(value)} for name, value in plain.items() if value is not None]
    return said + [_credential(name, text, parts) for name, text in _credentials(each).items()]


def _credentials(each: Integration) -> Mapping[str, str]:
    if not isinstance(each, S3 | Spaces):
        return {}
    found = {
        "RCLONE_CONFIG_SOURCE_ACCESS_KEY_ID": each.access_key_id,
        "RCLONE_CONFIG_SOURCE_SECRET_ACCESS_KEY": each.secret_access_key,
    }
    return {name: text for name, text in found.items() if text is not None}


def _credential(name: str, text: str, parts: Parts) -> Object:
    secret = reference(text)
    if secret is None:
        return {"name": name, "value": escaped(text)}
    return {"name": name, "valueFrom": from_secret(parts.names.secrets, secret)}


def _url(loc: Loc, source: Source, parts: Parts) -> Object:
    """One with a password in it comes from the Secret."""
    scheme = source.url.partition(":")[0].lower()
    if scheme not in _REACHABLE:
        message = f"can't be reached from a cluster: {scheme} needs files or keys of this machine"
        parts.findings.refuse(loc, message, "write an address of https")
    if _has_user(source.url):
        return {"name": "HALE_URL", "valueFrom": from_secret(parts.names.secrets, _url_key(source))}
    return {"name": "HALE_URL", "value": escaped(source.url)}


def _has_user(url: str) -> bool:
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:
        return False


def _url_key(source: Source) -> str:
    return f"{variable(source.name)}_URL"
