"""Integrations as sources of volumes: what fills them, and where a container finds them. Pure."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from hale.core.secret import reference
from hale.core.volume import Source
from hale.spec.problems import Loc
from hale.spec.references import Known, resolved
from hale.spec.schema import S3, GitLfs, Integration, Spaces, Spec, Volume

FOLDER = "/opt/integrations"
"""Where integrations without a `path` are."""

_SPACE = re.compile(r"https://([a-z0-9-]+)\.(([a-z0-9-]+)\.digitaloceanspaces\.com)")


def mount_point(integration: Integration) -> str:
    """`path` and the name; a path that ends in the name already is taken as it is."""
    name, written = integration.name, None if isinstance(integration, Volume) else integration.path
    if written is None:
        return f"{FOLDER}/{name}"
    path = PurePosixPath(re.sub(r"\A/+", "/", written))
    return str(path if path.name == name else path / name)


def sources(spec: Spec, known: Known) -> tuple[Source, ...]:
    """What the spec's volumes are filled with; stored models have no place here, and are refused."""
    return tuple(_sources(spec, known))


def _sources(spec: Spec, known: Known) -> Iterator[Source]:
    for index, each in enumerate(spec.integrations or ()):
        at, name, target = ("integrations", index), each.name, mount_point(each)
        match each:
            case Volume():
                yield Source(name, "volume", key=name, target=target)
            case GitLfs():
                yield Source(name, "git-lfs", _digest("git-lfs", name, each.url), target, url=each.url)
            case S3():
                yield _s3(at, each, target, known, each.url, each.endpoint, each.region)
            case Spaces() if space := _SPACE.fullmatch(each.endpoint):
                bucket, host, region = space.groups()
                yield _s3(at, each, target, known, f"s3://{bucket}/", f"https://{host}", region)


def _s3(
    at: Loc, each: S3 | Spaces, target: str, known: Known, url: str, endpoint: str | None, region: str | None
) -> Source:
    keys = {"accessKeyId": each.access_key_id, "secretAccessKey": each.secret_access_key}
    given = {field: resolved((*at, field), text, known) for field, text in keys.items() if text is not None}
    versions = [_version(text, known) for text in keys.values()]
    return Source(
        each.name,
        "s3",
        _digest("s3", each.name, url, endpoint, region, versions),
        target,
        url,
        endpoint or None,
        region or None,
        given.get("accessKeyId"),
        given.get("secretAccessKey"),
    )


def _version(text: str | None, known: Known) -> object:
    """What stands for the text in a digest: of a secret its name and when it was set, never its value."""
    name = None if text is None else reference(text)
    return text if name is None else (name, known[name].modified_at)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
